"""The teacher, trained before the students, for 60 epochs:

python tools/train.py configs/study/cifar10/resnet56_teacher.py --work-dir work_dirs/study/resnet56
"""

_base_ = ['../../_base_/models/cifar/resnet56.py', './_base_/cifar10_16.py']

model = dict(head=dict(num_classes=10))

max_iters = 60 * _base_.epoch
param_scheduler = [
    _base_.param_scheduler[0],
    dict(
        _base_.param_scheduler[1],
        milestones=[max_iters * part // 240 for part in (150, 180, 210)],
    ),
]
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
