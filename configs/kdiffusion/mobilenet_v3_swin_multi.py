"""Three layers: 87.88 in the slides. The first two of the teacher are tokens."""

_base_ = './mobilenet_v3_swin_single.py'

model = dict(
    branches=dict(
        layers=[
            'backbone.layer6.linear_conv.conv',
            'backbone.layer12.linear_conv.conv',
            'backbone.layer16.conv',
        ]
    ),
    points=dict(
        early=dict(
            **_base_.kdiffusion,
            student='backbone.layer6.linear_conv.conv',
            teacher='backbone.stages.1.blocks.1',
            channels_last='teacher',
            connector=dict(**_base_.bridge, student_channels=40, teacher_channels=192),
        ),
        middle=dict(
            **_base_.kdiffusion,
            student='backbone.layer12.linear_conv.conv',
            teacher='backbone.stages.2.blocks.5',
            channels_last='teacher',
            connector=dict(**_base_.bridge, student_channels=112, teacher_channels=384),
        ),
    ),
)
