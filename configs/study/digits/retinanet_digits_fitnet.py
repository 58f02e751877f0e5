_base_ = './retinanet_digits_student.py'

model = dict(
    _delete_=True,
    type='diffkd_mm.Distiller',
    student=_base_.model,
    teacher=dict(
        config='{{fileDirname}}/../../demo/retinanet_digits_teacher.py',
        checkpoint='{{fileDirname}}/../../demo/assets/retinanet_digits_teacher.pth',
    ),
    points=dict(
        fpn=dict(
            student='neck',
            teacher='neck',
            connector=dict(type='ConvConnector', student_channels=64, teacher_channels=64),
            loss=dict(type='MSELoss', loss_weight=5.0),
        ),
    ),
)
