"""Appendix C.5: FPN features alone, with DiffKD."""

_base_ = './retinanet_r50_r101_all_diffkd.py'

model = dict(points=dict(_delete_=True, fpn=_base_.model.points.fpn))
