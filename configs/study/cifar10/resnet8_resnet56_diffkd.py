"""Feature and logits, as in the paper's recipe for CIFAR-100. The teacher is trained first."""

_base_ = ['./resnet8_student.py', '../../_base_/points/cifar10.py']

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
            **_base_.feature,
            connector=dict(type='DiffKDConnector', student_channels=64, teacher_channels=64),
        ),
        logits=_base_.logits,
    ),
)
