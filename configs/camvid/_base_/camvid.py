"""Data, schedule and runtime of CamVid: images resized to 320×240, 1000 iterations of 8 crops.

``data/camvid`` is in Cityscapes' layout: ``leftImg8bit/{train,val}/`` and ``gtFine/{train,val}/``,
the labels being Cityscapes' train ids. Of its 19 classes CamVid has these eleven.
"""

_base_ = '../../_base_/cityscapes_40k.py'

custom_imports = dict(imports=['diffkd_mm'], allow_failed_imports=False)

data_root = 'data/camvid'
classes = (
    'road',
    'sidewalk',
    'building',
    'fence',
    'pole',
    'traffic sign',
    'vegetation',
    'sky',
    'person',
    'car',
    'bicycle',
)
image_size = (320, 240)
crop_size = (112, 160)

dataset = dict(data_root=data_root, img_suffix='_leftImg8bit.jpg', metainfo=dict(classes=classes))
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='RandomResize', scale=image_size, ratio_range=(0.75, 1.5), keep_ratio=True),
    dict(type='RandomCrop', crop_size=crop_size),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs'),
]
train_dataloader = dict(
    batch_size=8, num_workers=1, dataset=dict(**dataset, pipeline=train_pipeline)
)
val_dataloader = dict(
    batch_size=4,
    num_workers=1,
    dataset=dict(
        **dataset,
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='Resize', scale=image_size),
            dict(type='LoadAnnotations'),
            dict(type='PackSegInputs'),
        ],
    ),
)
test_dataloader = val_dataloader

auto_scale_lr = dict(base_batch_size=8)

max_iters = 1000
optim_wrapper = dict(optimizer=dict(_delete_=True, type='AdamW', lr=2e-3, weight_decay=1e-4))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=60),
    dict(type='PolyLR', eta_min=1e-5, power=0.9, by_epoch=False, begin=0, end=max_iters),
]
train_cfg = dict(max_iters=max_iters, val_interval=250)
default_hooks = dict(checkpoint=dict(interval=250, max_keep_ckpts=1))
