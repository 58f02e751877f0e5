"""Appendix C.5: FPN features alone, without a denoiser."""

_base_ = './retinanet_r50_r101_all_plain.py'

model = dict(points=dict(_delete_=True, fpn=_base_.model.points.fpn))
