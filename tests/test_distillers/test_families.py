"""The distiller is not made for one package or one detector."""

import pytest
import tiny
import torch
from mmengine.config import ConfigDict
from mmengine.optim import OptimWrapper
from mmengine.registry import MODELS, init_default_scope

from diffkd_mm.distillers.teacher import load_config

CHANNELS = 16


def build_distiller(scope, student, teacher, points, tmp_path):
    init_default_scope(scope)
    torch.save(MODELS.build(ConfigDict(teacher)).state_dict(), tmp_path / 'teacher.pth')
    cfg = dict(
        type='diffkd_mm.Distiller',
        student=student,
        teacher=dict(
            config=dict(model=teacher, default_scope=scope),
            checkpoint=str(tmp_path / 'teacher.pth'),
        ),
        points=points,
    )
    model = MODELS.build(ConfigDict(cfg))
    model.init_weights()
    return model.train()


def train_step(model, data):
    optimizer = OptimWrapper(torch.optim.SGD(model.parameters(), lr=1e-3))
    log = model.train_step(data, optimizer)
    assert all(torch.isfinite(value) for value in log.values())
    return log


def point(tap, channels, loss, **connector):
    connector = {'type': 'DiffKDConnector', **connector}
    return dict(
        student=tap,
        teacher=tap,
        connector=dict(connector, student_channels=channels, teacher_channels=channels),
        loss=loss,
    )


def small_detector(config):
    """A zoo config's detector on a ResNet-18 of an eighth of its width."""
    cfg = load_config(config).model
    cfg.backbone = tiny.retinanet()['backbone']
    cfg.backbone.out_indices = tuple(range(4))[-len(cfg.neck.in_channels) :]
    cfg.neck.in_channels = [64, 128, 256, 512][-len(cfg.neck.in_channels) :]
    cfg.neck.in_channels = [c // 8 for c in cfg.neck.in_channels]
    cfg._scope_ = 'mmdet'
    return cfg


@pytest.mark.parametrize(
    'config',
    [
        'mmdet::faster_rcnn/faster-rcnn_r50_fpn_2x_coco.py',
        'mmdet::fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py',
        'mmdet::reppoints/reppoints-moment_r50_fpn-gn_head-gn_2x_coco.py',
        'mmdet::retinanet/retinanet_r50_fpn_2x_coco.py',
    ],
    ids=lambda config: config.split('::')[1].split('/')[0],
)
def test_fpn_of_the_papers_detectors(config, tmp_path):
    points = dict(fpn=point('neck', 256, dict(type='MSELoss', loss_weight=5.0)))
    cfg = small_detector(config)
    if 'start_level' in cfg.neck and cfg.neck.start_level == 1:
        cfg.backbone.out_indices = (0, 1, 2, 3)
    model = build_distiller('mmdet', cfg, cfg, points, tmp_path)
    log = train_step(model, tiny.batch(2, 128))
    assert len(model.distillation.fpn.connector.levels) == 5
    assert {'fpn.loss_kd', 'fpn.loss_diff'} <= set(log)


def test_segmentation_logits(tmp_path):
    norm_cfg = dict(type='BN')
    cfg = dict(
        type='EncoderDecoder',
        data_preprocessor=dict(
            type='SegDataPreProcessor',
            mean=[0.0] * 3,
            std=[1.0] * 3,
            size=(64, 64),
            seg_pad_val=255,
        ),
        backbone=dict(
            type='ResNetV1c', depth=18, base_channels=8, stem_channels=8, norm_cfg=norm_cfg
        ),
        decode_head=dict(
            type='FCNHead',
            in_channels=64,
            in_index=3,
            channels=CHANNELS,
            num_convs=1,
            num_classes=19,
            norm_cfg=norm_cfg,
            loss_decode=dict(type='CrossEntropyLoss'),
        ),
        auxiliary_head=[
            dict(
                type='FCNHead',
                in_channels=32,
                in_index=2,
                channels=CHANNELS,
                num_convs=1,
                num_classes=19,
                norm_cfg=norm_cfg,
                loss_decode=dict(type='CrossEntropyLoss', loss_weight=0.4),
            ),
        ],
        train_cfg=dict(),
        test_cfg=dict(mode='whole'),
    )
    points = dict(
        logits=point('decode_head.conv_seg', 19, dict(type='DISTLoss')),
        auxiliary=point('auxiliary_head.0.conv_seg', 19, dict(type='DISTLoss', loss_weight=0.4)),
    )
    model = build_distiller('mmseg', cfg, cfg, points, tmp_path)

    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample

    samples = []
    for _ in range(2):
        sample = SegDataSample(metainfo=dict(img_shape=(64, 64), ori_shape=(64, 64)))
        sample.gt_sem_seg = PixelData(data=torch.randint(19, (1, 64, 64)))
        samples.append(sample)
    data = dict(inputs=[torch.randint(255, (3, 64, 64))] * 2, data_samples=samples)
    log = train_step(model, data)
    assert {'decode.loss_ce', 'logits.loss_kd', 'logits.loss_diff', 'auxiliary.loss_kd'} <= set(log)


def test_classification_features_and_logits(tmp_path):
    cfg = dict(
        type='ImageClassifier',
        backbone=dict(type='ResNet', depth=18, base_channels=8, stem_channels=8, out_indices=(3,)),
        neck=dict(type='GlobalAveragePooling'),
        head=dict(
            type='LinearClsHead', num_classes=10, in_channels=64, loss=dict(type='CrossEntropyLoss')
        ),
        data_preprocessor=dict(mean=[0.0] * 3, std=[1.0] * 3, num_classes=10),
    )
    points = dict(
        features=point('backbone', 64, dict(type='MSELoss'), latent_channels=32),
        logits=point(
            'head.fc',
            10,
            dict(type='KLDivLoss'),
            denoiser=dict(type='VectorDenoiser'),
            noise_adapter=dict(type='VectorNoiseAdapter'),
        ),
    )
    model = build_distiller('mmpretrain', cfg, cfg, points, tmp_path)

    from mmpretrain.structures import DataSample

    samples = [DataSample().set_gt_label(label) for label in (1, 2, 3)]
    data = dict(inputs=[torch.randint(255, (3, 64, 64))] * 3, data_samples=samples)
    log = train_step(model, data)
    assert {'features.loss_kd', 'features.loss_ae', 'logits.loss_kd', 'logits.loss_diff'} <= set(
        log
    )
