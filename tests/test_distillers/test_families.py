"""Families beyond those of the other files: what works by config alone, and what is refused.

With the other tests that note a family, these rows make ``docs/families.md``. Slow ones run with
``-m families``.
"""

from pathlib import Path

import pytest
import tiny
import torch
from test_detectors import DETECTORS, detector
from test_segmentors import SEGMENTORS, segmentor, simplify
from test_segmentors import batch as labelled

from diffkd_mm.configs import load_config

TABLE = Path(__file__).parents[2] / 'docs' / 'families.md'


def open_point(tap, **options):
    """A point that leaves everything out that can be found."""
    return dict(
        student=tap,
        teacher=tap,
        connector=dict(type='DiffKDConnector'),
        loss=dict(type='MSELoss'),
        **options,
    )


def images(size, batch_size=2):
    from mmpretrain.structures import DataSample

    samples = [DataSample().set_gt_label(label) for label in range(batch_size)]
    inputs = [torch.randint(255, (3, size, size)) for _ in range(batch_size)]
    return dict(inputs=inputs, data_samples=samples)


# Family, backbone of MMPretrain, channels, size of the images in pixels.
CLASSIFIERS = [
    pytest.param('resnet', tiny.classifier()['backbone'], 64, 64, id='resnet'),
    pytest.param('mobilenet_v2', dict(type='MobileNetV2', widen_factor=0.1), 1280, 64, id='mbv2'),
    pytest.param(
        'vig', dict(type='Vig', arch='tiny'), 192, 224, id='vig', marks=pytest.mark.families
    ),
    pytest.param(
        'repmlp',
        dict(
            type='RepMLPNet', arch='B', img_size=224, out_indices=(3,), reparam_conv_kernels=(1, 3)
        ),
        768,
        224,
        id='repmlp',
        marks=pytest.mark.families,
    ),
    pytest.param(
        'beit',
        dict(type='BEiTViT', arch='base', img_size=224, patch_size=16, out_type='avg_featmap')
        | dict(use_abs_pos_emb=False, use_rel_pos_bias=True, use_shared_rel_pos_bias=False),
        768,
        224,
        id='beit',
        marks=pytest.mark.families,
    ),
    pytest.param(
        'tinyvit',
        dict(type='TinyViT', arch='5m', img_size=(224, 224), window_size=[7, 7, 14, 7])
        | dict(out_indices=(3,), gap_before_final_norm=True),
        320,
        224,
        id='tinyvit',
        marks=pytest.mark.families,
    ),
    pytest.param(
        'tnt',
        dict(type='TNT', img_size=48, patch_size=16)
        | dict(
            arch=dict(embed_dims_outer=24, embed_dims_inner=8, num_layers=1)
            | dict(num_heads_outer=2, num_heads_inner=2)
        ),
        24,
        48,
        id='tnt',
    ),
]


@pytest.mark.parametrize(('name', 'backbone', 'channels', 'size'), CLASSIFIERS)
def test_classifier(name, backbone, channels, size, family):
    cfg = tiny.classifier()
    vectors = name in ('tnt', 'tinyvit', 'beit')
    cfg.update(backbone=backbone, neck=None if vectors else cfg['neck'])
    cfg['head']['in_channels'] = channels
    points = dict(features=open_point('backbone'), logits=open_point('head.fc'))
    model = tiny.build_distiller(cfg, cfg, points, scope='mmpretrain')
    assert model.distillation.features.connector.student_channels == [channels]
    log = tiny.train_step(model, images(size))
    assert log['features.loss_kd'] > 0 and log['logits.loss_kd'] > 0
    family('classifier', name, 'backbone', 'works')
    family('classifier', name, 'head.fc', 'works')


@pytest.mark.families
@pytest.mark.parametrize(
    ('name', 'config', 'size', 'levels'),
    [
        ('yolov3', 'yolo/yolov3_d53_8xb8-320-273e_coco.py', 128, [512, 256, 128]),
        ('ssd', 'ssd/ssd300_coco.py', 300, [512, 1024, 512, 256, 256, 256]),
    ],
)
def test_detector_of_other_channels_at_each_level(name, config, size, levels, family):
    cfg = load_config(f'mmdet::{config}').model
    cfg.update(_scope_='mmdet')
    cfg.backbone.init_cfg = None
    point = open_point('neck')
    point['connector'] = dict(type='ConvConnector')
    model = tiny.build_distiller(cfg, cfg, dict(fpn=point))
    assert model.distillation.fpn.connector.student_channels == levels
    for network in (model.student, model.teacher.model):
        network.init_weights()
    assert tiny.train_step(model, tiny.batch(2, size), lr=1e-5)['fpn.loss_kd'] >= 0
    family('detector', name, 'neck', 'works')


@pytest.mark.families
def test_lraspp(family):
    """It runs on images of at least 512 pixels."""
    cfg = simplify(load_config('mmseg::_base_/models/lraspp_m-v3-d8.py').model)
    cfg._scope_ = 'mmseg'
    cfg.data_preprocessor.size = (512, 512)
    point = open_point('decode_head.conv_seg')
    model = tiny.build_distiller(cfg, cfg, dict(logits=point), scope='mmseg')
    log = tiny.train_step(model, tiny.labelled_pixels((512, 512)))
    assert log['logits.loss_kd'] > 0
    family('segmentor', 'lraspp', 'decode_head.conv_seg', 'works')


@pytest.mark.parametrize('tap', ['aux_cls_seg', 'conv_seg'])
def test_ddrnet(tap, family):
    config = 'mmseg::ddrnet/ddrnet_23-slim_in1k-pre_2xb6-120k_cityscapes-1024x1024.py'
    cfg = simplify(load_config(config).model)
    cfg._scope_ = 'mmseg'
    cfg.data_preprocessor.size = (64, 128)
    cfg.backbone.init_cfg = None
    for loss in cfg.decode_head.loss_decode:
        loss.min_kept = 10
    point = open_point(f'decode_head.{tap}')
    point['teacher'] = 'decode_head.conv_seg'
    teacher = segmentor('fcn') if tap == 'aux_cls_seg' else cfg
    model = tiny.build_distiller(cfg, teacher, dict(logits=point), scope='mmseg')
    assert tiny.train_step(model, labelled())['logits.loss_kd'] > 0
    state = 'works' if tap == 'conv_seg' else 'works in a student; a teacher does not call it'
    family('segmentor', 'ddrnet', f'decode_head.{tap}', state)


# Family, its index among the detectors, a tap that is refused.
REFUSED = [
    ('deformable_detr', 14, 'bbox_head.cls_branches.0'),
    ('dino', 15, 'bbox_head.reg_branches.0'),
    ('sparse_rcnn', 13, 'roi_head.bbox_head.0.fc_cls'),
]


@pytest.mark.parametrize(('name', 'index', 'tap'), REFUSED)
def test_queries(name, index, tap, family):
    cfg = detector(DETECTORS[index][0])
    with pytest.raises(ValueError, match="per query.*queries='index'"):
        tiny.build_distiller(cfg, cfg, dict(queries=open_point(tap)))
    family('detector', name, tap, "refused: queries are not matched; `queries='index'` allows it")


def test_the_table_has_these_families():
    """The README counts them."""
    lines = [line for line in TABLE.read_text().splitlines() if line.startswith('|')]
    rows = [[cell.strip(' `') for cell in line.split('|')[1:-1]] for line in lines]
    works = {(name, tap) for _, name, tap, state in rows if state == 'works'}
    detectors = {(config.split('/')[0], 'neck') for config, *_ in DETECTORS}
    segmentors = {(name, SEGMENTORS[name][1]) for name in SEGMENTORS}
    assert detectors <= works and segmentors <= works
    kinds = {(kind, name) for kind, name, _, state in rows if state == 'works'}
    assert [sum(kind == x for kind, _ in kinds) for x in ('detector', 'segmentor')] == [18, 14]
