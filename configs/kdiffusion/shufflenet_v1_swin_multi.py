"""Three layers: 78.04 in the slides. The first two of the teacher are tokens."""

_base_ = './shufflenet_v1_swin_single.py'

model = dict(
    branches=dict(
        layers=[
            'backbone.layers.0.3.g_conv_1x1_expand.conv',
            'backbone.layers.1.7.g_conv_1x1_expand.conv',
            'backbone.layers.2.3.g_conv_1x1_expand.conv',
        ]
    ),
    points=dict(
        early=dict(
            **_base_.kdiffusion,
            student='backbone.layers.0.3.g_conv_1x1_expand.conv',
            teacher='backbone.stages.1.blocks.1',
            channels_last='teacher',
            connector=dict(**_base_.bridge, student_channels=240, teacher_channels=192),
        ),
        middle=dict(
            **_base_.kdiffusion,
            student='backbone.layers.1.7.g_conv_1x1_expand.conv',
            teacher='backbone.stages.2.blocks.5',
            channels_last='teacher',
            connector=dict(**_base_.bridge, student_channels=480, teacher_channels=384),
        ),
    ),
)
