"""DIST (Huang et al. 2022): DiffKD's loss without what DiffKD adds. Its weight is ours."""

_base_ = '../deeplabv3_r18_r101_diffkd.py'

model = dict(
    points=dict(
        _delete_=True,
        logits=dict(
            student='decode_head.conv_seg',
            teacher='decode_head.conv_seg',
            loss=dict(type='DISTLoss', loss_weight=1.0),
        ),
    ),
)
