"""MobileNetV2 alone on ImageNet-100: 84.04 in the slides."""

_base_ = ['mmpretrain::_base_/models/mobilenet_v2_1x.py', '../_base_/imagenet100.py']

model = dict(head=dict(num_classes=100))
