"""Any detector of MMDetection distils by config alone."""

import pytest
import tiny

from diffkd_mm.configs import load_config

# Config, number of the neck's levels, their channels.
DETECTORS = [
    ('retinanet/retinanet_r50_fpn_1x_coco.py', 5, 256),
    ('faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py', 5, 256),
    ('fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py', 5, 256),
    ('reppoints/reppoints-moment_r50_fpn-gn_head-gn_1x_coco.py', 5, 256),
    ('atss/atss_r50_fpn_1x_coco.py', 5, 256),
    ('gfl/gfl_r50_fpn_1x_coco.py', 5, 256),
    ('yolof/yolof_r50-c5_8xb8-1x_coco.py', 1, 512),
    ('yolox/yolox_tiny_8xb8-300e_coco.py', 3, 96),
    ('rtmdet/rtmdet_tiny_8xb32-300e_coco.py', 3, 96),
    ('mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py', 5, 256),
    ('cascade_rcnn/cascade-mask-rcnn_r50_fpn_1x_coco.py', 5, 256),
    ('condinst/condinst_r50_fpn_ms-poly-90k_coco_instance.py', 5, 256),
    ('solo/solo_r50_fpn_1x_coco.py', 5, 256),
    ('sparse_rcnn/sparse-rcnn_r50_fpn_1x_coco.py', 4, 256),
    ('deformable_detr/deformable-detr_r50_16xb2-50e_coco.py', 4, 256),
    ('dino/dino-4scale_r50_8xb2-12e_coco.py', 4, 256),
]


def detector(config):
    cfg = load_config(f'mmdet::{config}').model
    if cfg.type in ('YOLOX', 'RTMDet'):  # a network of its own, small as it is
        cfg.update(_scope_='mmdet')
        cfg.backbone.init_cfg = cfg.data_preprocessor.batch_augments = None
    else:
        cfg = tiny.shrink(cfg)
    if cfg.type == 'DINO':
        cfg.num_queries = 20  # a small image has no more than some hundred places for them
    return cfg


def build(student, teacher, **points):
    model = tiny.build_distiller(student, teacher, points)
    for network in (model.student, model.teacher.model):
        network.init_weights()
    return model


def fpn(student_channels=256, teacher_channels=256, **options):
    return dict(
        student='neck',
        teacher='neck',
        connector=dict(
            type='DiffKDConnector',
            student_channels=student_channels,
            teacher_channels=teacher_channels,
        ),
        loss=dict(type='MSELoss', loss_weight=5.0),
        **options,
    )


def train_step(model, data):
    return tiny.train_step(model, data, lr=1e-4, part='neck')


@pytest.mark.parametrize(
    'config, num_levels, channels', DETECTORS, ids=[x[0].split('/')[0] for x in DETECTORS]
)
def test_neck(config, num_levels, channels, family):
    model = build(detector(config), detector(config), fpn=fpn(channels, channels))
    assert len(model.distillation.fpn.connector.levels) == num_levels
    with_mask = any(word in config for word in ('mask', 'condinst', 'solo'))
    log = train_step(model, tiny.batch(2, 128, with_mask=with_mask))
    assert log['fpn.loss_kd'] > 0 and log['fpn.loss_diff'] > 0
    family('detector', config.split('/')[0], 'neck', 'works')


PAIRS = [
    # Necks with P2-P6 and P3-P7.
    (DETECTORS[1][0], DETECTORS[2][0], [8, 16, 32, 64], 4),
    (DETECTORS[2][0], DETECTORS[1][0], [8, 16, 32, 64], 4),
    (DETECTORS[0][0], 'dino/dino-4scale_r50_8xb2-12e_coco.py', [8, 16, 32, 64], 4),
    (DETECTORS[14][0], DETECTORS[0][0], [8, 16, 32], 3),
]


@pytest.mark.parametrize('student, teacher, strides, num_levels', PAIRS)
def test_pairs_of_different_families(student, teacher, strides, num_levels):
    """Other heads, other strides, other channels and, for FCOS, other preprocessing."""
    student, teacher = detector(student), detector(teacher)
    if teacher.type == 'FCOS':
        teacher.neck.out_channels = teacher.bbox_head.in_channels = 64
    model = build(
        student, teacher, fpn=fpn(256, 64 if teacher.type == 'FCOS' else 256, strides=strides)
    )
    log = train_step(model, tiny.batch(2, 128))
    assert len(model.distillation.fpn.connector.levels) == num_levels
    assert log['fpn.loss_kd'] > 0


def test_other_number_of_classes():
    """Features do not mind; class scores do, and say so."""
    student, teacher = detector(DETECTORS[0][0]), detector(DETECTORS[0][0])
    teacher.bbox_head.num_classes = 3
    scores = dict(
        student='bbox_head.retina_cls',
        teacher='bbox_head.retina_cls',
        loss=dict(type='MSELoss'),
    )
    train_step(build(student, teacher, fpn=fpn()), tiny.batch(2, 128))
    with pytest.raises(ValueError, match="'scores': level 0 has 720 channels .* and 27 in"):
        build(student, teacher, scores=scores)


@pytest.mark.parametrize(
    'teacher, message',
    [
        (DETECTORS[1][0], r'level 0 has size \(16, 16\) in the student and \(32, 32\).*strides'),
        (DETECTORS[13][0], 'gives 5 levels, the teacher tap .* 4.*strides'),
    ],
    ids=['strides', 'fewer levels'],
)
def test_necks_that_differ(teacher, message):
    with pytest.raises(ValueError, match=message):
        build(detector(DETECTORS[0][0]), detector(teacher), fpn=fpn())


@pytest.mark.parametrize('loss', [dict(type='MSELoss'), dict(type='FGDLoss', channels=256)])
def test_images_without_objects(loss):
    cfg = detector(DETECTORS[0][0])
    point = fpn()
    point['loss'] = loss
    model = build(cfg, cfg, fpn=point)
    data = tiny.batch(2, 128)
    for sample in data['data_samples']:
        sample.gt_instances = sample.gt_instances[:0]
    train_step(model, data)


def test_loss_that_misses_the_ground_truth():
    cfg = detector(DETECTORS[0][0])
    model = build(cfg, cfg, fpn=dict(fpn(), loss=dict(type='FGDLoss', channels=256)))
    data = model.data_preprocessor(tiny.batch(2, 128), True)
    students = teachers = model.student.extract_feat(data['inputs'])
    for sample in data['data_samples']:
        del sample.gt_instances
    with pytest.raises(ValueError, match='FGDLoss needs the ground truth'):
        model.distillation.fpn(students, teachers, data['data_samples'])


QUERIES = 'bbox_head.cls_branches.0'


def queries(tap, **options):
    return dict(queries=dict(student=tap, teacher=tap, loss=dict(type='MSELoss'), **options))


def test_taps_in_a_transformer():
    """The teacher runs as far as its `mode='tensor'`, with the sizes of the images."""
    cfg = detector(DETECTORS[14][0])
    model = build(cfg, cfg, **queries(QUERIES, queries='index'))
    assert train_step(model, tiny.batch(2, 128))['queries.loss_kd'] > 0


@pytest.mark.parametrize('tap', [QUERIES, 'decoder.layers.0', 'decoder'])
def test_queries_are_not_compared_unmatched(tap):
    cfg = detector(DETECTORS[14][0])
    message = "point 'queries': the student tap .* outputs something per query.*queries='index'"
    with pytest.raises(ValueError, match=message):
        build(cfg, cfg, **queries(tap))


def test_layers_of_a_decoder_are_no_batch():
    cfg = detector(DETECTORS[14][0])
    options = dict(queries='index', student_levels=[0], teacher_levels=[0])
    with pytest.raises(ValueError, match=r'\(6, 2, 300, 256\) for 2 images: .*tap a layer'):
        build(cfg, cfg, **queries('decoder', **options))


@pytest.mark.parametrize(
    ('family', 'tap'), [(13, 'roi_head.bbox_head.0.fc_cls'), (15, 'bbox_head.reg_branches.0')]
)
def test_queries_of_other_families(family, tap):
    cfg = detector(DETECTORS[family][0])
    student = detector(DETECTORS[0][0])
    with pytest.raises(ValueError, match='per query'):
        build(cfg, student, **queries(tap))
    point = queries(tap)['queries']
    point['student'] = 'bbox_head.retina_cls'
    with pytest.raises(ValueError, match='the teacher tap .*per query'):
        build(student, cfg, queries=point)
