"""The student DeepLabV3-R18 alone, without ImageNet weights (Table 6, †: 65.17 mIoU)."""

_base_ = './deeplabv3_r18.py'

model = dict(backbone=dict(init_cfg=None))
