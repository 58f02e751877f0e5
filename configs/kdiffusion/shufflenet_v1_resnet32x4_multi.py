"""Three layers: 77.90 in the slides."""

_base_ = './shufflenet_v1_resnet32x4_single.py'

model = dict(
    branches=dict(
        layers=[
            'backbone.layers.0.3.expand.conv',
            'backbone.layers.1.7.expand.conv',
            'backbone.layers.2.3.expand.conv',
        ]
    ),
    points=dict(
        early=dict(
            **_base_.kdiffusion,
            student='backbone.layers.0.3.expand.conv',
            teacher='backbone.layer1',
            connector=dict(**_base_.bridge, student_channels=240, teacher_channels=64),
        ),
        middle=dict(
            **_base_.kdiffusion,
            student='backbone.layers.1.7.expand.conv',
            teacher='backbone.layer2',
            connector=dict(**_base_.bridge, student_channels=480, teacher_channels=128),
        ),
    ),
)
