"""DIST (Huang et al. 2022) on both heads' logits, weighted as in its authors' segmentation code."""

_base_ = '../deeplabv3_r18_r101_diffkd.py'

model = dict(
    points=dict(
        _delete_=True,
        logits=dict(**_base_.taps, loss=dict(type='DISTLoss', loss_weight=1.0)),
        auxiliary=dict(
            student='auxiliary_head.conv_seg',
            teacher='auxiliary_head.conv_seg',
            loss=dict(type='DISTLoss', loss_weight=0.4),
        ),
    ),
)
