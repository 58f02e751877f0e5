"""ResNet-8 alone, for 2 epochs."""

_base_ = '../../study/cifar10/resnet8_student.py'

max_iters = 2 * _base_.epoch
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=_base_.epoch),
    dict(
        type='MultiStepLR',
        by_epoch=False,
        milestones=[max_iters * part // 240 for part in (150, 180, 210)],
        gamma=0.1,
    ),
]
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
