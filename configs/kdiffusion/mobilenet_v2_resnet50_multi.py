"""Three layers: 69.95 in the slides."""

_base_ = './mobilenet_v2_resnet50_single.py'

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
            teacher='backbone.layer2',
            connector=dict(**_base_.bridge, student_channels=16, teacher_channels=512),
        ),
        middle=dict(
            **_base_.kdiffusion,
            student='backbone.layers.4.2.conv.2.conv',
            teacher='backbone.layer3',
            connector=dict(**_base_.bridge, student_channels=48, teacher_channels=1024),
        ),
    ),
)
