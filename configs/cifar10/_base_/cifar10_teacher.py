"""The teachers' length, see ``cifar10.py``."""

_base_ = './cifar10.py'

max_iters = _base_.teacher_iters
param_scheduler = dict(milestones=[max_iters * epoch // 240 for epoch in (150, 180, 210)])
train_cfg = dict(max_iters=max_iters, val_interval=max_iters // 2)
default_hooks = dict(checkpoint=dict(interval=max_iters // 2))
