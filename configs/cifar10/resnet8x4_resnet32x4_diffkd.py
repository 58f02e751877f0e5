"""The teacher is trained first, see ``resnet32x4_teacher.py``."""

_base_ = './resnet8x4_student.py'

model = dict(
    _delete_=True,
    type='diffkd_mm.Distiller',
    student=_base_.model,
    teacher=dict(
        config='{{fileDirname}}/resnet32x4_teacher.py',
        checkpoint=f'work_dirs/cifar10/resnet32x4/iter_{_base_.teacher_iters}.pth',
    ),
    points=dict(
        feature=dict(
            student='backbone',
            teacher='backbone',
            connector=dict(type='DiffKDConnector', student_channels=256, teacher_channels=256),
            loss=dict(type='MSELoss', loss_weight=1.0),
        ),
        logits=dict(
            student='head.fc',
            teacher='head.fc',
            connector=dict(
                type='DiffKDConnector',
                student_channels=10,
                teacher_channels=10,
                denoiser=dict(type='VectorDenoiser'),
                noise_adapter=dict(type='VectorNoiseAdapter'),
            ),
            loss=dict(type='KLDivLoss', tau=1.0, loss_weight=1.0),
        ),
    ),
)
