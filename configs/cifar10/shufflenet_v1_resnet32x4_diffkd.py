"""The teacher is trained first, see ``resnet32x4_teacher.py``."""

_base_ = ['./shufflenet_v1_student.py', '../_base_/points/cifar10.py']

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
            **_base_.feature,
            resize=True,  # the student's map is the smaller one
            connector=dict(type='DiffKDConnector', student_channels=960, teacher_channels=256),
        ),
        logits=_base_.logits,
    ),
)
