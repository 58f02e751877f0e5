"""MasKD, of a student that starts from random weights (Table 6, †)."""

_base_ = './deeplabv3_r18_r101_maskd.py'

model = dict(student=dict(backbone=dict(init_cfg=None)))
