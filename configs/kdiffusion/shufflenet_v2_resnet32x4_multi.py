"""Three layers: 77.34 in the slides."""

_base_ = './shufflenet_v2_resnet32x4_single.py'

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
            teacher='backbone.layer1',
            connector=dict(**_base_.bridge, student_channels=58, teacher_channels=64),
        ),
        middle=dict(
            **_base_.kdiffusion,
            student='backbone.layers.1.7.branch2.2.conv',
            teacher='backbone.layer2',
            connector=dict(**_base_.bridge, student_channels=116, teacher_channels=128),
        ),
    ),
)
