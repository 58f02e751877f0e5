"""Appendix C.5: classification outputs alone, with DiffKD."""

_base_ = './retinanet_r50_r101_all_diffkd.py'

model = dict(points=dict(_delete_=True, cls=_base_.model.points.cls))
