"""FitNet (Romero et al. 2015) on DiffKD's feature: a 1×1 conv on the student, MSE."""

_base_ = './wrn40_1_wrn40_2_diffkd.py'

model = dict(
    points=dict(
        _delete_=True,
        feature=dict(
            student='backbone',
            teacher='backbone',
            connector=dict(type='ConvConnector', student_channels=64, teacher_channels=128),
            loss=dict(type='MSELoss', loss_weight=1.0),
        ),
    ),
)
