"""Appendix C.5: classification outputs alone, without a denoiser."""

_base_ = './retinanet_r50_r101_all_plain.py'

model = dict(points=dict(_delete_=True, cls=_base_.model.points.cls))
