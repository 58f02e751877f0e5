"""Strategy A1 (Table 1): CIFAR-100 under ``data/cifar100``, 240 epochs of batches of 64, one GPU.

It is the recipe of the CRD benchmark (Tian et al. 2020), whose learning rate is 0.01 for
MobileNetV2 and the ShuffleNets.
"""

_base_ = [
    'mmpretrain::_base_/datasets/cifar100_bs16.py',
    'mmpretrain::_base_/default_runtime.py',
]

custom_imports = dict(imports=['diffkd_mm'], allow_failed_imports=False)

# The benchmark's, which its teachers were trained with.
data_preprocessor = dict(
    mean=[255 * x for x in (0.5071, 0.4867, 0.4408)],
    std=[255 * x for x in (0.2675, 0.2565, 0.2761)],
)

# The images are held on the GPU and augmented there: networks this small would wait for a loader.
loader = dict(num_workers=0, collate_fn=dict(type='default_collate'))
train_dataloader = dict(
    batch_size=64,
    **loader,
    dataset=dict(
        _delete_=True,
        type='diffkd_mm.InMemoryDataset',
        dataset=dict(_base_.train_dataloader.dataset, pipeline=_base_.test_pipeline),
        padding=4,
        flip_prob=0.5,
    ),
)
val_dataloader = dict(
    batch_size=500,
    **loader,
    dataset=dict(
        _delete_=True, type='diffkd_mm.InMemoryDataset', dataset=_base_.val_dataloader.dataset
    ),
)
test_dataloader = val_dataloader

optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.05, momentum=0.9, weight_decay=5e-4))
param_scheduler = dict(type='MultiStepLR', by_epoch=True, milestones=[150, 180, 210], gamma=0.1)
train_cfg = dict(by_epoch=True, max_epochs=240, val_interval=1)
val_cfg = dict()
test_cfg = dict()
auto_scale_lr = dict(base_batch_size=64)

default_hooks = dict(checkpoint=dict(interval=10, max_keep_ckpts=1))
env_cfg = dict(cudnn_benchmark=True)
randomness = dict(seed=0)
