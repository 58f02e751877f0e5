"""A detector small enough to be trained in a test, and what tests of all models share."""

from copy import deepcopy

import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.optim import OptimWrapper
from mmengine.registry import MODELS, init_default_scope
from mmengine.structures import PixelData

import diffkd_mm  # noqa: F401  registers the distiller
from diffkd_mm.compat import TORCH

NEEDS_FLOAT16 = pytest.mark.skipif(TORCH < (2, 3), reason='this PyTorch has no float16 on the CPU')
AUTOCAST_DTYPES = [
    pytest.param(torch.float16, marks=NEEDS_FLOAT16, id='float16'),
    pytest.param(torch.bfloat16, id='bfloat16'),
]


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


def classifier(num_classes: int = 10) -> dict:
    """Config of a ResNet-18 of an eighth of its width; 64 channels before pooling."""
    return dict(
        type='ImageClassifier',
        backbone=dict(type='ResNet', depth=18, base_channels=8, stem_channels=8, out_indices=(3,)),
        neck=dict(type='GlobalAveragePooling'),
        head=dict(
            type='LinearClsHead',
            num_classes=num_classes,
            in_channels=64,
            loss=dict(type='CrossEntropyLoss'),
        ),
        data_preprocessor=dict(mean=[0.0] * 3, std=[1.0] * 3, num_classes=num_classes),
    )


def segmentor(base_channels: int = 8, num_classes: int = 19, **decode_head) -> dict:
    """Config of an FCN (stride 8) on a ResNet-18 of an eighth of its width, for 64×64 pixels.

    Args:
        base_channels (int): Channels of the first stage. Defaults to 8.
        num_classes (int): Number of classes. Defaults to 19.
        **decode_head: Options of the head.
    """
    head = dict(
        type='FCNHead',
        in_channels=8 * base_channels,
        channels=16,
        num_convs=1,
        num_classes=num_classes,
        norm_cfg=dict(type='BN'),
        dropout_ratio=0,  # which every device draws for itself
    )
    return dict(
        type='EncoderDecoder',
        data_preprocessor=dict(
            type='SegDataPreProcessor', mean=[127.0] * 3, std=[60.0] * 3, size=(64, 64)
        ),
        backbone=dict(
            type='ResNetV1c',
            depth=18,
            base_channels=base_channels,
            stem_channels=base_channels,
            strides=(1, 2, 1, 1),
            dilations=(1, 1, 2, 4),
            norm_cfg=dict(type='BN'),
        ),
        decode_head=dict(head, **decode_head),
        test_cfg=dict(mode='whole'),
    )


def shrink(cfg: ConfigDict) -> ConfigDict:
    """Puts a ResNet-18 of an eighth of its width under a zoo config's detector."""
    cfg = deepcopy(cfg)
    in_channels = cfg.neck.in_channels
    stages = len(in_channels) if isinstance(in_channels, list) else 1
    cfg.backbone = retinanet()['backbone']
    cfg.backbone.out_indices = (0, 1, 2, 3)[-stages:]
    widths = [8, 16, 32, 64][-stages:]
    cfg.neck.in_channels = widths if isinstance(in_channels, list) else widths[0]
    cfg._scope_ = 'mmdet'
    return cfg


def build(cfg: dict, scope: str = 'mmdet') -> torch.nn.Module:
    """Builds a model in a package's scope."""
    init_default_scope(scope)
    return MODELS.build(ConfigDict(deepcopy(cfg)))


def build_distiller(student: dict, teacher: dict, points: dict, scope: str = 'mmdet', **options):
    """Builds a distiller in training mode whose teacher has random weights.

    Args:
        student (dict): Config of the student.
        teacher (dict): Config of the teacher.
        points (dict): The distillation points.
        scope (str): The package's scope. Defaults to ``'mmdet'``.
        **options: Further options of the distiller.
    """
    model = build(
        dict(
            type='diffkd_mm.Distiller',
            student=student,
            teacher=dict(config='none', checkpoint='none'),
            points=points,
            **options,
        ),
        scope,
    )
    model.use_teacher(build(teacher, scope))
    return model.train()


def train_step(
    model: torch.nn.Module, data: dict, lr: float = 1e-3, part: str = 'backbone'
) -> dict:
    """Takes a step of SGD, which must be finite and move the first weight of a student's part."""
    wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=lr))
    weight = next(getattr(model.student, part).parameters())
    before = weight.detach().clone()
    log = model.train_step(data, wrapper)
    assert all(torch.isfinite(value) for value in log.values())
    assert not torch.equal(weight, before)
    return log


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


def batch(batch_size: int = 2, size: int = 64, num_classes: int = 10, **options) -> dict:
    """Random images with random boxes."""
    from mmdet.testing import demo_mm_inputs

    shapes = [[3, size, size]] * batch_size
    return demo_mm_inputs(batch_size, shapes, num_classes=num_classes, **options)


def labelled_pixels(shape: tuple[int, int], labels: torch.Tensor | None = None) -> dict:
    """Two random images with random labels of 19 classes, or the given ones (1, *shape)."""
    from mmseg.structures import SegDataSample

    samples = []
    for _ in range(2):
        sample = SegDataSample(metainfo=dict(img_shape=shape, ori_shape=shape))
        data = torch.randint(19, (1, *shape)) if labels is None else labels.clone()
        sample.gt_sem_seg = PixelData(data=data)
        samples.append(sample)
    return dict(inputs=[torch.randint(256, (3, *shape))] * 2, data_samples=samples)


def training(root, teacher_checkpoint, max_epochs: int = 2, model=None, **overrides) -> Config:
    """Config of a complete training of the tiny distiller on eight pictures of digits.

    Args:
        root (Path): Folder for data and work dir.
        teacher_checkpoint (Path): The teacher's weights.
        max_epochs (int): Epochs of two iterations each.
        model (dict, optional): Config of the model; the tiny distiller by default.
        **overrides: Top-level entries.
    """
    dataset = dict(type='diffkd_mm.DigitsDataset', data_root=str(root / 'digits'), image_size=64)
    load = [
        dict(type='LoadImageFromFile'),
        dict(type='Resize', scale=(64, 64)),
        dict(type='LoadAnnotations', with_bbox=True),
    ]
    loader = dict(batch_size=4, num_workers=0, persistent_workers=False)
    val_dataloader = dict(
        **loader,
        sampler=dict(type='DefaultSampler', shuffle=False),
        dataset=dict(
            **dataset,
            split='val',
            num_images=4,
            test_mode=True,
            pipeline=[
                *load,
                dict(
                    type='PackDetInputs',
                    meta_keys=(
                        *('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'),
                        'instances',  # the truth, for the metric
                    ),
                ),
            ],
        ),
    )
    evaluator = dict(type='CocoMetric', metric='bbox')
    cfg = dict(
        default_scope='mmdet',
        custom_imports=dict(imports=['diffkd_mm'], allow_failed_imports=False),
        work_dir=str(root / 'work'),
        model=model or distiller(teacher_checkpoint),
        train_dataloader=dict(
            **loader,
            sampler=dict(type='DefaultSampler', shuffle=True),
            dataset=dict(
                **dataset, split='train', num_images=8, pipeline=[*load, dict(type='PackDetInputs')]
            ),
        ),
        val_dataloader=val_dataloader,
        test_dataloader=val_dataloader,
        val_evaluator=evaluator,
        test_evaluator=evaluator,
        train_cfg=dict(type='EpochBasedTrainLoop', max_epochs=max_epochs, val_interval=max_epochs),
        val_cfg=dict(type='ValLoop'),
        test_cfg=dict(type='TestLoop'),
        optim_wrapper=dict(
            type='OptimWrapper',
            optimizer=dict(type='SGD', lr=0.01, momentum=0.9),
            accumulative_counts=1,
        ),
        param_scheduler=[dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=8)],
        default_hooks=dict(
            checkpoint=dict(type='CheckpointHook', interval=1),
            logger=dict(type='LoggerHook', interval=1),
            visualization=dict(type='DetVisualizationHook'),
        ),
        randomness=dict(seed=0),
        auto_scale_lr=dict(enable=False, base_batch_size=8),
        log_processor=dict(type='LogProcessor', window_size=1, by_epoch=True),
    )
    cfg.update(overrides)
    return Config(cfg)
