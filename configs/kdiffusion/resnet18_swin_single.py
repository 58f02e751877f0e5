"""ResNet-18 ← Swin on ImageNet-100, one layer: 86.18 in the slides."""

_base_ = ['./students/resnet18.py', './_base_/points.py']

model = dict(
    _delete_=True,
    type='diffkd_mm.Distiller',
    student=_base_.model,
    teacher=dict(
        config='{{fileDirname}}/students/swin_t.py',
        checkpoint='work_dirs/swin_t/epoch_100.pth',
    ),
    branches=dict(layers=['backbone.layer4.1.conv2'], num_branches=_base_.num_branches),
    points=dict(
        last=dict(
            **_base_.kdiffusion,
            student='backbone.layer4.1.conv2',
            teacher='backbone',
            connector=dict(**_base_.bridge, student_channels=512, teacher_channels=768),
        ),
    ),
)
