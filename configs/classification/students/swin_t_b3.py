"""The student Swin-T alone (Table 3: 81.3 top-1), with a stochastic depth of 0.2."""

_base_ = [
    'mmpretrain::_base_/models/swin_transformer/tiny_224.py',  # its loss smooths the labels
    '../../_base_/imagenet_b3.py',
]

model = dict(train_cfg=None)  # the strategy mixes the images
