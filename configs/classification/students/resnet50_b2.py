"""The student ResNet-50 alone (Table 3: 78.5 top-1)."""

_base_ = ['mmpretrain::_base_/models/resnet50.py', '../../_base_/imagenet_b2.py']

model = dict(
    head=dict(loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original')),
)
