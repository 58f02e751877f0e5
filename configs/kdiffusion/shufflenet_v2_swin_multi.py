"""Three layers: 80.68 in the slides. The first two of the teacher are tokens."""

_base_ = './shufflenet_v2_swin_single.py'

model = dict(
    branches=dict(
        layers=[
            'backbone.layers.0.3.branch2.2.conv',
            'backbone.layers.1.7.branch2.2.conv',
            'backbone.layers.3.conv',
        ]
    ),
    points=dict(
        early=dict(
            **_base_.kdiffusion,
            student='backbone.layers.0.3.branch2.2.conv',
            teacher='backbone.stages.1.blocks.1',
            channels_last='teacher',
            connector=dict(**_base_.bridge, student_channels=58, teacher_channels=192),
        ),
        middle=dict(
            **_base_.kdiffusion,
            student='backbone.layers.1.7.branch2.2.conv',
            teacher='backbone.stages.2.blocks.5',
            channels_last='teacher',
            connector=dict(**_base_.bridge, student_channels=116, teacher_channels=384),
        ),
    ),
)
