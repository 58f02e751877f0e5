"""DiffKD whose weight is found by the size of the detector's own losses."""

_base_ = '../retinanet_digits_diffkd.py'

model = dict(points=dict(fpn=dict(balance=dict(ratio=5.0))))
