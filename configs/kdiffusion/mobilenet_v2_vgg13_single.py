"""MobileNetV2 ← VGG-13 on CIFAR-100, one layer: 69.14 in the slides."""

_base_ = ['../cifar100/mobilenet_v2.py', './_base_/points.py']

model = dict(
    _delete_=True,
    type='diffkd_mm.Distiller',
    student=_base_.model,
    teacher=dict(
        config='{{fileDirname}}/../cifar100/vgg13.py',
        checkpoint='checkpoints/vgg13_vanilla/ckpt_epoch_240.pth',
    ),
    branches=dict(layers=['backbone.conv2.conv'], num_branches=_base_.num_branches),
    points=dict(
        last=dict(
            **_base_.kdiffusion,
            student='backbone.conv2.conv',
            teacher='backbone',
            connector=dict(**_base_.bridge, student_channels=1280, teacher_channels=512),
        ),
    ),
)
