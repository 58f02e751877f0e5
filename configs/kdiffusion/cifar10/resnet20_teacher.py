"""The teacher, trained before the students, for 12 epochs:

python tools/train.py configs/kdiffusion/cifar10/resnet20_teacher.py \\
    --work-dir work_dirs/kdiffusion/resnet20
"""

_base_ = '../../study/cifar10/resnet20_student.py'

max_iters = 12 * _base_.epoch
param_scheduler = [
    _base_.param_scheduler[0],
    dict(
        _base_.param_scheduler[1],
        milestones=[max_iters * part // 240 for part in (150, 180, 210)],
    ),
]
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
