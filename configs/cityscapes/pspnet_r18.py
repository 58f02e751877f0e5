"""The student PSPNet-R18 alone (Table 6: 72.55 mIoU)."""

_base_ = [
    '../_base_/models/pspnet_r18.py',
    '../_base_/cityscapes_40k.py',
    '../_base_/runtime/cirkd.py',
]
