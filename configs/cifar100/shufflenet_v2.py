"""ShuffleNetV2 alone, a student of Table 9: 71.82 there."""

_base_ = ['../_base_/models/cifar/shufflenet_v2.py', '../_base_/cifar100_a1.py']

optim_wrapper = dict(optimizer=dict(lr=0.01))
