"""ResNet-8 alone, for 2 epochs."""

_base_ = '../../study/cifar10/resnet8_student.py'

max_iters = 2 * _base_.epoch
param_scheduler = [
    _base_.param_scheduler[0],
    dict(
        _base_.param_scheduler[1],
        milestones=[max_iters * part // 240 for part in (150, 180, 210)],
    ),
]
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
