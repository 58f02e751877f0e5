"""Data, schedule and runtime of the blood cells: images of 256×192 pixels, 300 iterations of 8.

``data/bccd`` holds ``annotations/{train,val}.json`` in COCO's format, ``train/`` and ``val/``.
"""

_base_ = '../../demo/_base_/digits.py'

data_root = 'data/bccd'
metainfo = dict(classes=('RBC', 'WBC', 'Platelets'))
image_size = (256, 192)

train_dataloader = dict(
    batch_size=8,
    dataset=dict(
        _delete_=True,
        type='CocoDataset',
        data_root=data_root,
        metainfo=metainfo,
        ann_file='annotations/train.json',
        data_prefix=dict(img='train/'),
        filter_cfg=dict(filter_empty_gt=True),
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='LoadAnnotations', with_bbox=True),
            dict(type='Resize', scale=image_size),
            dict(type='RandomFlip', prob=0.75, direction=['horizontal', 'vertical', 'diagonal']),
            dict(type='PackDetInputs'),
        ],
    ),
)
val_dataloader = dict(
    batch_size=8,
    dataset=dict(
        _delete_=True,
        type='CocoDataset',
        data_root=data_root,
        metainfo=metainfo,
        ann_file='annotations/val.json',
        data_prefix=dict(img='val/'),
        test_mode=True,
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='Resize', scale=image_size),
            dict(type='LoadAnnotations', with_bbox=True),
            dict(
                type='PackDetInputs',
                meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'),
            ),
        ],
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + '/annotations/val.json')
test_evaluator = val_evaluator

max_iters = 300
train_cfg = dict(max_iters=max_iters, val_interval=100)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=60),
    dict(type='CosineAnnealingLR', eta_min_ratio=0.01, by_epoch=False, begin=0, end=max_iters),
]
default_hooks = dict(checkpoint=dict(interval=100))
auto_scale_lr = dict(base_batch_size=8)

data_preprocessor = dict(
    type='DetDataPreprocessor',
    mean=[189.0, 179.0, 181.0],
    std=[22.0, 22.0, 22.0],
    bgr_to_rgb=True,
    pad_size_divisor=32,
)
