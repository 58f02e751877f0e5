"""FitNet (Romero et al. 2015) on DiffKD's feature: a 1×1 conv on the student, MSE."""

_base_ = './shufflenet_v2_resnet32x4_diffkd.py'

model = dict(
    points=dict(
        _delete_=True,
        feature=dict(
            student='backbone',
            teacher='backbone',
            resize=True,
            connector=dict(type='ConvConnector', student_channels=1024, teacher_channels=256),
            loss=dict(type='MSELoss', loss_weight=1.0),
        ),
    ),
)
