"""The teacher, trained before the students, for 12 epochs:

python tools/train.py configs/kdiffusion/cifar10/resnet20_teacher.py \\
    --work-dir work_dirs/kdiffusion/resnet20
"""

_base_ = '../../study/cifar10/resnet20_student.py'

max_iters = 12 * _base_.epoch
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
