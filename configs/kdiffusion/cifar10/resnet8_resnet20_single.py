"""One layer, the last convolution before the pooling."""

_base_ = './resnet8_branches.py'

model = dict(
    teacher=dict(
        config='{{fileDirname}}/resnet20_teacher.py',
        checkpoint=f'work_dirs/kdiffusion/resnet20/iter_{12 * _base_.epoch}.pth',
    ),
    points=dict(
        last=dict(
            **_base_.kdiffusion,
            student='backbone.layer3.0.conv2',
            teacher='backbone',
            connector=dict(**_base_.bridge, student_channels=64, teacher_channels=64),
        ),
    ),
)
