"""ResNet-18 alone on ImageNet-100: 84.42 in the slides."""

_base_ = ['mmpretrain::_base_/models/resnet18.py', '../_base_/imagenet100.py']

model = dict(head=dict(num_classes=100))
