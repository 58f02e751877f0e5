"""The teacher is trained first, see ``configs/bccd``."""

_base_ = './retinanet_bccd_student.py'

model = dict(
    _delete_=True,
    type='diffkd_mm.Distiller',
    student=_base_.model,
    teacher=dict(
        config='{{fileDirname}}/../../bccd/gfl_bccd_teacher.py',
        checkpoint='work_dirs/bccd/teacher/iter_1200.pth',
    ),
    points=dict(
        fpn=dict(
            student='neck',
            teacher='neck',
            strides=[8, 16, 32],
            connector=dict(type='ConvConnector', student_channels=64, teacher_channels=96),
            loss=dict(type='MSELoss', loss_weight=0.7),
        ),
    ),
)
