"""The student DeepLabV3-MobileNetV2 alone (Table 6: 73.12 mIoU)."""

_base_ = [
    '../_base_/models/deeplabv3_mbv2.py',
    '../_base_/cityscapes_40k.py',
    '../_base_/runtime/cirkd.py',
]

optim_wrapper = dict(optimizer=dict(weight_decay=2e-4))
