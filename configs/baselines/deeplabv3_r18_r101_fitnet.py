"""FitNet (Romero et al. 2015) on the logits: a 1×1 conv on the student, MSE. Its weight is ours."""

_base_ = '../deeplabv3_r18_r101_diffkd.py'

model = dict(
    points=dict(
        _delete_=True,
        logits=dict(
            **_base_.taps,
            connector=dict(type='ConvConnector', student_channels=19, teacher_channels=19),
            loss=dict(type='MSELoss', loss_weight=1.0),
        ),
    ),
)
