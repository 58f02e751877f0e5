"""DIST. Its point has a name of its own, for its grid of weights."""

_base_ = './resnet8_resnet56_diffkd.py'

model = dict(
    points=dict(
        _delete_=True,
        dist=dict(
            student='head.fc', teacher='head.fc', loss=dict(type='DISTLoss', loss_weight=1.0)
        ),
    ),
)
