"""The teacher: a GFL with strides 8 to 64 on a ResNet-18 of half its width, trained for longer.

Trained before the students, in 10 to 20 minutes on one or two CPU cores:

    python tools/train.py configs/bccd/gfl_bccd_teacher.py --work-dir work_dirs/bccd/teacher
"""

_base_ = './_base_/bccd.py'

strides = [8, 16, 32, 64]
base_channels = 32

model = dict(
    type='GFL',
    data_preprocessor=_base_.data_preprocessor,
    backbone=dict(
        type='ResNet',
        depth=18,
        stem_channels=base_channels,
        base_channels=base_channels,
        out_indices=(1, 2, 3),
        frozen_stages=-1,
        norm_eval=False,
    ),
    neck=dict(
        type='FPN',
        in_channels=[2 * base_channels, 4 * base_channels, 8 * base_channels],
        out_channels=96,
        add_extra_convs='on_output',
        num_outs=len(strides),
    ),
    bbox_head=dict(
        type='GFLHead',
        num_classes=3,
        in_channels=96,
        feat_channels=96,
        stacked_convs=2,
        norm_cfg=dict(type='GN', num_groups=8),
        anchor_generator=dict(
            type='AnchorGenerator',
            octave_base_scale=4,
            scales_per_octave=1,
            ratios=[1.0],
            strides=strides,
        ),
        reg_max=8,
        loss_cls=dict(type='QualityFocalLoss', use_sigmoid=True, beta=2.0, loss_weight=1.0),
        loss_dfl=dict(type='DistributionFocalLoss', loss_weight=0.25),
        loss_bbox=dict(type='GIoULoss', loss_weight=2.0),
    ),
    train_cfg=dict(
        assigner=dict(type='ATSSAssigner', topk=9), allowed_border=-1, pos_weight=-1, debug=False
    ),
    test_cfg=dict(
        nms_pre=300,
        min_bbox_size=0,
        score_thr=0.05,
        nms=dict(type='nms', iou_threshold=0.6),
        max_per_img=50,
    ),
)

# Every image is seen 47 times, so its scale changes and parts of it are cut out.
train_dataloader = dict(
    dataset=dict(
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='LoadAnnotations', with_bbox=True),
            dict(
                type='RandomResize',
                scale=_base_.image_size,
                ratio_range=(0.85, 1.15),
                keep_ratio=True,
            ),
            dict(type='RandomCrop', crop_size=(192, 256)),  # of the width alone
            dict(type='RandomFlip', prob=0.75, direction=['horizontal', 'vertical', 'diagonal']),
            dict(type='PackDetInputs'),
        ]
    )
)

max_iters = 1200
train_cfg = dict(max_iters=max_iters, val_interval=200)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=60),
    dict(type='CosineAnnealingLR', eta_min_ratio=0.01, by_epoch=False, begin=0, end=max_iters),
]
optim_wrapper = dict(optimizer=dict(lr=2e-3))
default_hooks = dict(checkpoint=dict(interval=200))
