"""The teacher is trained first, see ``wrn40_2_teacher.py``."""

_base_ = ['./wrn40_1_student.py', '../_base_/points/cifar10.py']

model = dict(
    _delete_=True,
    type='diffkd_mm.Distiller',
    student=_base_.model,
    teacher=dict(
        config='{{fileDirname}}/wrn40_2_teacher.py',
        checkpoint=f'work_dirs/cifar10/wrn40_2/iter_{_base_.teacher_iters}.pth',
    ),
    points=dict(
        feature=dict(
            **_base_.feature,
            connector=dict(type='DiffKDConnector', student_channels=64, teacher_channels=128),
        ),
        logits=_base_.logits,
    ),
)
