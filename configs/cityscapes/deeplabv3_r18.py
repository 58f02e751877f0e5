"""The student DeepLabV3-R18 alone (Table 6: 74.21 mIoU)."""

_base_ = [
    '../_base_/models/deeplabv3_r18.py',
    '../_base_/cityscapes_40k.py',
    '../_base_/runtime/cirkd.py',
]
