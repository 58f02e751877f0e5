"""ImageNet-100 under ``data/imagenet100``: strategy B1 on a hundred classes, a folder each.

The slides name neither the classes nor the schedule.
"""

_base_ = '../../_base_/imagenet_b1.py'

data_preprocessor = dict(num_classes=100)
dataset = dict(_delete_=True, type='CustomDataset', data_root='data/imagenet100')
train_dataloader = dict(
    dataset=dict(**dataset, data_prefix='train', pipeline=_base_.train_pipeline)
)
val_dataloader = dict(dataset=dict(**dataset, data_prefix='val', pipeline=_base_.test_pipeline))
test_dataloader = val_dataloader
