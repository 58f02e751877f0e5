"""The student MobileNetV2 alone (Table 3: 73.6 top-1)."""

_base_ = ['mmpretrain::_base_/models/mobilenet_v2_1x.py', '../../_base_/imagenet_b2.py']

model = dict(
    head=dict(loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original')),
)
