"""DiffKD's two points and distances with no more than a 1×1 conv."""

_base_ = './resnet8_resnet56_diffkd.py'

model = dict(
    points=dict(
        feature=dict(connector=dict(type='ConvConnector')),
        logits=dict(connector=None),
    ),
)
