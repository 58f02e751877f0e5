"""Appendix C.5: regression outputs alone, without a denoiser."""

_base_ = './retinanet_r50_r101_all_plain.py'

model = dict(points=dict(_delete_=True, reg=_base_.model.points.reg))
