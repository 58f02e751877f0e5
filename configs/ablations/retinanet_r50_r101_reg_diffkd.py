"""Appendix C.5: regression outputs alone, with DiffKD."""

_base_ = './retinanet_r50_r101_all_diffkd.py'

model = dict(points=dict(_delete_=True, reg=_base_.model.points.reg))
