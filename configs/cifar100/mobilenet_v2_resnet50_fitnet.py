"""FitNet (Romero et al. 2015) on DiffKD's feature: a 1×1 conv on the student, MSE."""

_base_ = './mobilenet_v2_resnet50_diffkd.py'

model = dict(
    points=dict(
        _delete_=True,
        feature=dict(
            student='backbone',
            teacher='backbone',
            resize=True,
            connector=dict(type='ConvConnector', student_channels=1280, teacher_channels=2048),
            loss=dict(type='MSELoss', loss_weight=1.0),
        ),
    ),
)
