"""The teacher of ImageNet-100, 94.48 in the slides. Which Swin theirs is, is open; ours: Swin-T."""

_base_ = ['mmpretrain::_base_/models/swin_transformer/tiny_224.py', '../_base_/imagenet100.py']

model = dict(head=dict(num_classes=100), train_cfg=dict(augments=None))
