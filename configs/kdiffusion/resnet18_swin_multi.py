"""Three layers: 86.30 in the slides. The first two of the teacher are tokens."""

_base_ = './resnet18_swin_single.py'

model = dict(
    branches=dict(
        layers=[
            'backbone.layer2.1.conv2',
            'backbone.layer3.1.conv2',
            'backbone.layer4.1.conv2',
        ]
    ),
    points=dict(
        early=dict(
            **_base_.kdiffusion,
            student='backbone.layer2.1.conv2',
            teacher='backbone.stages.1.blocks.1',
            channels_last='teacher',
            connector=dict(**_base_.bridge, student_channels=128, teacher_channels=192),
        ),
        middle=dict(
            **_base_.kdiffusion,
            student='backbone.layer3.1.conv2',
            teacher='backbone.stages.2.blocks.5',
            channels_last='teacher',
            connector=dict(**_base_.bridge, student_channels=256, teacher_channels=384),
        ),
    ),
)
