"""The distiller is not made for one package: segmentation and classification."""

import torch
from mmengine.config import ConfigDict
from mmengine.optim import OptimWrapper
from mmengine.registry import MODELS, init_default_scope

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
