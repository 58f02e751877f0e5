"""ShuffleNetV1 ← ResNet-32x4 on CIFAR-100, one layer: 76.62 in the slides."""

_base_ = ['../cifar100/shufflenet_v1.py', './_base_/points.py']

model = dict(
    _delete_=True,
    type='diffkd_mm.Distiller',
    student=_base_.model,
    teacher=dict(
        config='{{fileDirname}}/../cifar100/resnet32x4.py',
        checkpoint='checkpoints/resnet32x4_vanilla/ckpt_epoch_240.pth',
    ),
    branches=dict(layers=['backbone.layers.2.3.expand.conv'], num_branches=_base_.num_branches),
    points=dict(
        last=dict(
            **_base_.kdiffusion,
            student='backbone.layers.2.3.expand.conv',
            teacher='backbone',
            connector=dict(**_base_.bridge, student_channels=960, teacher_channels=256),
        ),
    ),
)
