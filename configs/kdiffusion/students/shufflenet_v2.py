"""ShuffleNetV2 alone on ImageNet-100: 76.86 in the slides."""

_base_ = ['mmpretrain::_base_/models/shufflenet_v2_1x.py', '../_base_/imagenet100.py']

model = dict(head=dict(num_classes=100))
