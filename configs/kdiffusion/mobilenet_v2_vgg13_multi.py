"""Three layers: 69.91 in the slides."""

_base_ = './mobilenet_v2_vgg13_single.py'

model = dict(
    branches=dict(
        layers=[
            'backbone.layers.2.2.conv.2.conv',
            'backbone.layers.4.2.conv.2.conv',
            'backbone.conv2.conv',
        ]
    ),
    points=dict(
        early=dict(
            **_base_.kdiffusion,
            student='backbone.layers.2.2.conv.2.conv',
            teacher='backbone.features.5',
            connector=dict(**_base_.bridge, student_channels=16, teacher_channels=128),
        ),
        middle=dict(
            **_base_.kdiffusion,
            student='backbone.layers.4.2.conv.2.conv',
            teacher='backbone.features.8',
            connector=dict(**_base_.bridge, student_channels=48, teacher_channels=256),
        ),
    ),
)
