"""PKD without a connector. Its point has a name of its own, for its grid of weights."""

_base_ = './retinanet_digits_fitnet.py'

model = dict(
    points=dict(
        _delete_=True,
        pkd=dict(student='neck', teacher='neck', loss=dict(type='PKDLoss', loss_weight=30.0)),
    ),
)
