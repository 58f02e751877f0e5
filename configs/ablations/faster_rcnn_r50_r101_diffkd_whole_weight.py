"""The other reading of B.3's "DiffKD loss weight": the 5 multiplies `loss_diff` as well."""

_base_ = '../faster_rcnn_r50_r101_diffkd.py'

model = dict(points=dict(fpn=dict(connector=dict(loss_diff_weight=5.0))))
