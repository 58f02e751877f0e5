"""Data, schedule and runtime of CIFAR-10 as JPEG files, a folder per class: strategy A1, or a part.

``data/cifar10`` holds ``train/<class>/*.jpg`` and ``test/<class>/*.jpg``. Training counts
iterations; every drop of the learning rate comes at the part of them at which A1's comes.

By default the length is that of a study on two CPU cores: 400 iterations, half an epoch, for
students and 1200 for teachers. ``CIFAR10_SCHEDULE=a1`` in the environment gives A1's 240 epochs to
both.
"""

_base_ = '../../_base_/cifar100_a1.py'

# Iterations of students and teachers; 782 are an epoch of 50,000 images in batches of 64.
lengths = dict(cpu=(400, 1200), a1=(240 * 782, 240 * 782))
max_iters, teacher_iters = lengths['{{$CIFAR10_SCHEDULE:cpu}}']

data_preprocessor = dict(
    num_classes=10,
    mean=[255 * x for x in (0.4914, 0.4822, 0.4465)],
    std=[255 * x for x in (0.2470, 0.2435, 0.2616)],
    to_rgb=True,
)
dataset = dict(
    type='CustomDataset',
    data_root='data/cifar10',
    pipeline=[dict(type='LoadImageFromFile'), dict(type='PackInputs')],
)
train_dataloader = dict(
    sampler=dict(type='InfiniteSampler'),
    dataset=dict(dataset=dict(_delete_=True, **dataset, data_prefix='train')),
)
val_dataloader = dict(dataset=dict(dataset=dict(_delete_=True, **dataset, data_prefix='test')))
test_dataloader = val_dataloader

param_scheduler = dict(
    by_epoch=False, milestones=[max_iters * epoch // 240 for epoch in (150, 180, 210)]
)
train_cfg = dict(_delete_=True, by_epoch=False, max_iters=max_iters, val_interval=max_iters // 2)

default_hooks = dict(
    logger=dict(interval=25, log_metric_by_epoch=False),
    checkpoint=dict(by_epoch=False, interval=max_iters // 2),
)
log_processor = dict(window_size=25, by_epoch=False)
