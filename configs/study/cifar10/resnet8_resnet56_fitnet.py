_base_ = './resnet8_resnet56_diffkd.py'

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
