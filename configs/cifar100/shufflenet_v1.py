"""ShuffleNetV1 alone, a student of Table 9: 70.50 there."""

_base_ = ['../_base_/models/cifar/shufflenet_v1.py', '../_base_/cifar100_a1.py']

optim_wrapper = dict(optimizer=dict(lr=0.01))
