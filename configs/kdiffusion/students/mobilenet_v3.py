"""MobileNetV3 alone on ImageNet-100: 84.98 in the slides."""

_base_ = [
    'mmpretrain::_base_/models/mobilenet_v3/mobilenet_v3_large_imagenet.py',
    '../_base_/imagenet100.py',
]

model = dict(head=dict(num_classes=100))
