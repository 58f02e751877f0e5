"""CIRKD (Yang et al. 2022) with the values of its authors' code: relations of pixels, and KD."""

_base_ = '../deeplabv3_r18_r101_diffkd.py'

model = dict(
    points=dict(
        _delete_=True,
        logits=dict(**_base_.taps, loss=dict(type='KLDivLoss', tau=1.0, loss_weight=1.0)),
        embedding=dict(
            student='decode_head.dropout',  # the classifier's input
            teacher='decode_head.dropout',
            loss=dict(type='CIRKDLoss', student_channels=128, teacher_channels=256, num_classes=19),
        ),
    ),
)
