"""Data, schedule and runtime of CIFAR-10 averaged down to 16×16, in batches of 128.

``CIFAR10_EPOCHS`` in the environment is the number of epochs of the students, 20 by default.
``data/cifar10`` is as for ``configs/cifar10``. A tenth of the training images is kept for tuning
and validated on. The learning rate is that of strategy A1 with its drops at the same parts, after a
warm-up epoch.
"""

_base_ = '../../../cifar10/_base_/cifar10.py'

image_size = 16
epoch = 351  # iterations: 45,000 images in batches of 128
max_iters = int('{{$CIFAR10_EPOCHS:20}}') * epoch

custom_imports = dict(
    imports=['diffkd_mm', 'diffkd_mm.datasets.folders'], allow_failed_imports=False
)
dataset = dict(
    type='diffkd_mm.SplitFolders',
    data_root='data/cifar10',
    pipeline=[
        dict(type='LoadImageFromFile'),
        dict(type='Resize', scale=image_size, interpolation='area'),  # means of 2×2 pixels
        dict(type='PackInputs'),
    ],
)
train_dataloader = dict(
    batch_size=128,
    dataset=dict(dataset=dict(_delete_=True, **dataset, split='train'), padding=2),
)
val_dataloader = dict(dataset=dict(dataset=dict(_delete_=True, **dataset, split='tune')))
test_dataloader = dict(dataset=dict(dataset=dict(_delete_=True, **dataset, split='test')))

param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=epoch),
    dict(
        type='MultiStepLR',
        by_epoch=False,
        milestones=[max_iters * part // 240 for part in (150, 180, 210)],
        gamma=0.1,
    ),
]
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
default_hooks = dict(checkpoint=dict(interval=2 * epoch))
auto_scale_lr = dict(base_batch_size=128)
