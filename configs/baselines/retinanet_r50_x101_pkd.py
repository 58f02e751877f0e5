"""PKD (Cao et al. 2022). Weight and levels (P7 is left out) as in MMRazor's config of this pair."""

_base_ = '../retinanet_r50_x101_diffkd.py'

model = dict(
    points=dict(
        _delete_=True,
        fpn=dict(
            student='neck',
            teacher='neck',
            strides=[8, 16, 32, 64],
            loss=dict(type='PKDLoss', loss_weight=10.0),
        ),
    ),
)
