"""ShuffleNetV1 alone on ImageNet-100: 74.74 in the slides."""

_base_ = ['mmpretrain::_base_/models/shufflenet_v1_1x.py', '../_base_/imagenet100.py']

model = dict(head=dict(num_classes=100))
