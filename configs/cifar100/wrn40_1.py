"""WRN-40-1 alone, a student of Table 9: 71.98 there."""

_base_ = ['../_base_/models/cifar/wrn40_1.py', '../_base_/cifar100_a1.py']
