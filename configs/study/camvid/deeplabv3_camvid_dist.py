"""DIST on the logits. The teacher is trained first, see ``deeplabv3_mbv2_camvid_teacher.py``."""

_base_ = './deeplabv3_camvid_student.py'

model = dict(
    _delete_=True,
    type='diffkd_mm.Distiller',
    student=_base_.model,
    teacher=dict(
        config='{{fileDirname}}/deeplabv3_mbv2_camvid_teacher.py',
        checkpoint='work_dirs/study/camvid_teacher/iter_1500.pth',
    ),
    points=dict(
        logits=dict(
            student='decode_head.conv_seg',
            teacher='decode_head.conv_seg',
            loss=dict(type='DISTLoss', loss_weight=0.5),
        ),
    ),
)
