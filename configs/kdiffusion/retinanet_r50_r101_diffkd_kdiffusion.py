"""KDiffusion on the convolutions of the FPN beside DiffKD on its output. Of no paper."""

_base_ = ['../retinanet_r50_r101_diffkd.py', './_base_/points.py']

connector = dict(**_base_.bridge, student_channels=256, teacher_channels=256)
model = dict(
    branches=dict(
        layers=['neck.fpn_convs.0.conv', 'neck.fpn_convs.1.conv', 'neck.fpn_convs.2.conv'],
        num_branches=_base_.num_branches,
    ),
    points=dict(
        p3=dict(
            **_base_.kdiffusion,
            student='neck.fpn_convs.0.conv',
            teacher='neck.fpn_convs.0',
            connector=connector,
        ),
        p4=dict(
            **_base_.kdiffusion,
            student='neck.fpn_convs.1.conv',
            teacher='neck.fpn_convs.1',
            connector=connector,
        ),
        p5=dict(
            **_base_.kdiffusion,
            student='neck.fpn_convs.2.conv',
            teacher='neck.fpn_convs.2',
            connector=connector,
        ),
    ),
)
