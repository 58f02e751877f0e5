"""ResNet-20 alone, a student of Table 9: 69.06 there."""

_base_ = ['../_base_/models/cifar/resnet20.py', '../_base_/cifar100_a1.py']
