"""Three layers: 86.20 in the slides. The first two of the teacher are tokens."""

_base_ = './mobilenet_v2_swin_single.py'

model = dict(
    branches=dict(
        layers=[
            'backbone.layer3.2.conv.2.conv',
            'backbone.layer5.2.conv.2.conv',
            'backbone.conv2.conv',
        ]
    ),
    points=dict(
        early=dict(
            **_base_.kdiffusion,
            student='backbone.layer3.2.conv.2.conv',
            teacher='backbone.stages.1.blocks.1',
            channels_last='teacher',
            connector=dict(**_base_.bridge, student_channels=32, teacher_channels=192),
        ),
        middle=dict(
            **_base_.kdiffusion,
            student='backbone.layer5.2.conv.2.conv',
            teacher='backbone.stages.2.blocks.5',
            channels_last='teacher',
            connector=dict(**_base_.bridge, student_channels=96, teacher_channels=384),
        ),
    ),
)
