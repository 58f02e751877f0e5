"""The convolutions of both levels of the FPN, each with the teacher's level."""

_base_ = './retinanet_digits_branches.py'

bridge = dict(**_base_.bridge, student_channels=64, teacher_channels=64)
model = dict(
    teacher=dict(
        config='{{fileDirname}}/../../demo/retinanet_digits_teacher.py',
        checkpoint='{{fileDirname}}/../../demo/assets/retinanet_digits_teacher.pth',
    ),
    points=dict(
        p3=dict(
            **_base_.kdiffusion,
            student='neck.fpn_convs.0.conv',
            teacher='neck.fpn_convs.0',
            connector=bridge,
        ),
        p4=dict(
            **_base_.kdiffusion,
            student='neck.fpn_convs.1.conv',
            teacher='neck.fpn_convs.1',
            connector=bridge,
        ),
    ),
)
