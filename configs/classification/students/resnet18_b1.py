"""The student ResNet-18 alone (Table 2: 69.76 top-1)."""

_base_ = ['mmpretrain::_base_/models/resnet18.py', '../../_base_/imagenet_b1.py']
