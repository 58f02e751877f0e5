"""FitNet (Romero et al. 2015) on DiffKD's feature: a 1×1 conv on the student, MSE."""

_base_ = './resnet20_resnet56_diffkd.py'

model = dict(
    points=dict(
        _delete_=True,
        feature=dict(
            student='backbone',
            teacher='backbone',
            connector=dict(type='ConvConnector', student_channels=64, teacher_channels=64),
            loss=dict(type='MSELoss', loss_weight=1.0),
        ),
    ),
)
