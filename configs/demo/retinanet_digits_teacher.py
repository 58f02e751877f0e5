"""The demo's teacher: the student's architecture at four times its width, trained for longer."""

_base_ = './retinanet_digits_student.py'

base_channels = 32
model = dict(
    backbone=dict(base_channels=base_channels, stem_channels=base_channels),
    neck=dict(in_channels=[2 * base_channels, 4 * base_channels]),
)

max_iters = 2000
train_cfg = dict(max_iters=max_iters, val_interval=300)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=60),
    dict(type='CosineAnnealingLR', eta_min_ratio=0.01, by_epoch=False, begin=0, end=max_iters),
]
