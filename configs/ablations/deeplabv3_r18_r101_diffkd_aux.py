"""The auxiliary head's logits are distilled as well, with its weight (not in the paper).

The weight is that of the code of MasKD and DIST, by the authors of DiffKD.
"""

_base_ = '../deeplabv3_r18_r101_diffkd.py'

model = dict(
    points=dict(
        auxiliary=dict(
            student='auxiliary_head.conv_seg',
            teacher='auxiliary_head.conv_seg',
            connector=dict(type='DiffKDConnector', student_channels=19, teacher_channels=19),
            loss=dict(type='DISTLoss', loss_weight=0.4),
        ),
    ),
)
