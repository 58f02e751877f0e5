"""One layer, the convolution of the FPN's finest level."""

_base_ = './retinanet_digits_multi.py'

point = _base_.model.points.p3
model = dict(
    branches=dict(layers=['neck.fpn_convs.0.conv']),
    points=dict(_delete_=True, p3=point),
)
