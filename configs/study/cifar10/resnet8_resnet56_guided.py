"""A form of our own, without diffusion: target guidance by the teacher's classifier beside FitNet.

Its point has a name of its own, for its grid of ``guidance_weight``; the weight of the plain
distance stays at the smallest of FitNet's grid.
"""

_base_ = './resnet8_resnet56_fitnet.py'

model = dict(
    points=dict(
        _delete_=True,
        guided=dict(
            _base_.model.points.feature,
            loss=dict(type='MSELoss', loss_weight=0.1),
            guidance='head.fc',
            guidance_weight=1.0,
        ),
    ),
)
