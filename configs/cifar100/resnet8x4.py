"""ResNet-8x4 alone, a student of Table 9: 72.50 there."""

_base_ = ['../_base_/models/cifar/resnet8x4.py', '../_base_/cifar100_a1.py']
