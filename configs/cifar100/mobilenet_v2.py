"""MobileNetV2 of half width alone, a student of Table 9: 64.60 there."""

_base_ = ['../_base_/models/cifar/mobilenet_v2.py', '../_base_/cifar100_a1.py']

optim_wrapper = dict(optimizer=dict(lr=0.01))
