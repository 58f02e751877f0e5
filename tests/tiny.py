"""A detector small enough to be trained in a test, and what goes with it."""

from copy import deepcopy

import torch
from mmengine.config import ConfigDict
from mmengine.registry import MODELS, init_default_scope

import diffkd_mm  # noqa: F401  registers the distiller


def retinanet(base_channels: int = 8, channels: int = 16, **data_preprocessor) -> dict:
    """Config of a RetinaNet of three levels (strides 8, 16, 32) with ``channels`` channels."""
    return dict(
        type='RetinaNet',
        _scope_='mmdet',
        data_preprocessor=dict(
            type='DetDataPreprocessor',
            **dict(
                dict(mean=[127.0] * 3, std=[60.0] * 3, bgr_to_rgb=True, pad_size_divisor=32),
                **data_preprocessor,
            ),
        ),
        backbone=dict(
            type='ResNet',
            depth=18,
            base_channels=base_channels,
            stem_channels=base_channels,
            norm_cfg=dict(type='BN'),
            norm_eval=False,
            frozen_stages=-1,
            out_indices=(1, 2, 3),
        ),
        neck=dict(
            type='FPN',
            in_channels=[base_channels * 2, base_channels * 4, base_channels * 8],
            out_channels=channels,
            num_outs=3,
        ),
        bbox_head=dict(
            type='RetinaHead',
            num_classes=10,
            in_channels=channels,
            stacked_convs=1,
            feat_channels=channels,
            anchor_generator=dict(
                type='AnchorGenerator', scales=[4], ratios=[1.0], strides=[8, 16, 32]
            ),
            bbox_coder=dict(type='DeltaXYWHBBoxCoder'),
            loss_cls=dict(type='FocalLoss', use_sigmoid=True, gamma=2.0, alpha=0.25),
            loss_bbox=dict(type='L1Loss'),
        ),
        train_cfg=dict(
            assigner=dict(
                type='MaxIoUAssigner',
                pos_iou_thr=0.5,
                neg_iou_thr=0.4,
                min_pos_iou=0,
                ignore_iof_thr=-1,
            ),
            sampler=dict(type='PseudoSampler'),
            allowed_border=-1,
            pos_weight=-1,
            debug=False,
        ),
        test_cfg=dict(
            nms_pre=100,
            min_bbox_size=0,
            score_thr=0.0,
            nms=dict(type='nms', iou_threshold=0.5),
            max_per_img=20,
        ),
    )


def build(cfg: dict) -> torch.nn.Module:
    """Builds a model in MMDetection's scope."""
    init_default_scope('mmdet')
    return MODELS.build(ConfigDict(deepcopy(cfg)))


FPN_POINT = dict(
    student='neck',
    teacher='neck',
    connector=dict(type='DiffKDConnector', student_channels=16, teacher_channels=24),
    loss=dict(type='MSELoss', loss_weight=5.0),
)
REG_POINT = dict(
    student='bbox_head.retina_reg',
    teacher='bbox_head.retina_reg',
    loss=dict(type='mmdet.SmoothL1Loss', loss_weight=1.0),
)


def distiller(teacher_checkpoint, points=None, teacher=None, **student) -> dict:
    """Config of a distiller of the tiny detector by one of 24 channels."""
    points = dict(fpn=FPN_POINT, reg=REG_POINT) if points is None else points
    return dict(
        type='diffkd_mm.Distiller',
        student=retinanet(**student),
        teacher=dict(
            config=dict(model=teacher or retinanet(channels=24), default_scope='mmdet'),
            checkpoint=str(teacher_checkpoint),
        ),
        points=deepcopy(points),
    )


def batch(batch_size: int = 2, size: int = 64) -> dict:
    """Random images with random boxes."""
    from mmdet.testing import demo_mm_inputs

    return demo_mm_inputs(batch_size, [[3, size, size]] * batch_size, num_classes=10)
