"""ShuffleNetV2 ← ResNet-32x4 on CIFAR-100, one layer: 76.87 in the slides."""

_base_ = ['../cifar100/shufflenet_v2.py', './_base_/points.py']

model = dict(
    _delete_=True,
    type='diffkd_mm.Distiller',
    student=_base_.model,
    teacher=dict(
        config='{{fileDirname}}/../cifar100/resnet32x4.py',
        checkpoint='checkpoints/resnet32x4_vanilla/ckpt_epoch_240.pth',
    ),
    branches=dict(layers=['backbone.layers.3.conv'], num_branches=_base_.num_branches),
    points=dict(
        last=dict(
            **_base_.kdiffusion,
            student='backbone.layers.3.conv',
            teacher='backbone',
            connector=dict(**_base_.bridge, student_channels=1024, teacher_channels=256),
        ),
    ),
)
