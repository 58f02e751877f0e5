"""CWD (Shu et al. 2021). Weight and levels (P7 is left out) as in its authors' detection code."""

_base_ = '../retinanet_r50_x101_diffkd.py'

model = dict(
    points=dict(
        _delete_=True,
        fpn=dict(
            student='neck',
            teacher='neck',
            strides=[8, 16, 32, 64],
            loss=dict(type='CWDLoss', tau=1.0, loss_weight=5.0),
        ),
    ),
)
