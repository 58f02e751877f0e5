"""Feature and logits, as in the paper's recipe for CIFAR-100. The teacher is trained first."""

_base_ = './resnet8_student.py'

model = dict(
    _delete_=True,
    type='diffkd_mm.Distiller',
    student=_base_.model,
    teacher=dict(
        config='{{fileDirname}}/resnet56_teacher.py',
        checkpoint=f'work_dirs/study/resnet56/iter_{60 * _base_.epoch}.pth',
    ),
    points=dict(
        feature=dict(
            student='backbone',
            teacher='backbone',
            connector=dict(type='DiffKDConnector', student_channels=64, teacher_channels=64),
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
