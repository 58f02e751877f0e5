"""Any segmentor of MMSegmentation distils by config alone."""

import pytest
import tiny
import torch
from mmengine.config import ConfigDict

from diffkd_mm.configs import load_config
from diffkd_mm.errors import DistillationError

SIZE = (64, 128)
# Base config, path of the classifier, its stride.
SEGMENTORS = {
    'fcn': ('fcn_r50-d8', 'decode_head.conv_seg', 8),
    'pspnet': ('pspnet_r50-d8', 'decode_head.conv_seg', 8),
    'deeplabv3': ('deeplabv3_r50-d8', 'decode_head.conv_seg', 8),
    'deeplabv3plus': ('deeplabv3plus_r50-d8', 'decode_head.conv_seg', 4),
    'upernet': ('upernet_r50', 'decode_head.conv_seg', 4),
    'semantic_fpn': ('fpn_r50', 'decode_head.conv_seg', 4),
    'segformer': ('segformer_mit-b0', 'decode_head.conv_seg', 4),
    'bisenetv1': ('bisenetv1_r18-d32', 'decode_head.conv_seg', 8),
    'bisenetv2': ('bisenetv2', 'decode_head.conv_seg', 8),
    'fast_scnn': ('fast_scnn', 'decode_head.conv_seg', 8),
    'hrnet': ('fcn_hr18', 'decode_head.conv_seg', 4),
    'ocrnet': ('ocrnet_hr18', 'decode_head.1.conv_seg', 4),
}


def simplify(cfg):
    """Plain batch norm, and no weights from the net."""
    if isinstance(cfg, list):
        return [simplify(value) for value in cfg]
    if not isinstance(cfg, dict):
        return cfg
    cfg = ConfigDict({key: simplify(value) for key, value in cfg.items()})
    if cfg.get('type') == 'SyncBN':
        cfg.type = 'BN'
    cfg.pop('pretrained', None)
    return cfg


def narrow(in_channels):
    """Channels of a ResNet-50's stages turned into those of the small one."""
    if isinstance(in_channels, list):
        return [narrow(x) for x in in_channels]
    return {256: 8, 512: 16, 1024: 32, 2048: 64}[in_channels]


def segmentor(family):
    """The family's model in MMSegmentation's base config, with a small backbone."""
    name, *_ = SEGMENTORS.get(family, (family,))
    cfg = simplify(load_config(f'mmseg::_base_/models/{name}.py').model)
    cfg._scope_ = 'mmseg'
    cfg.data_preprocessor.size = SIZE
    heads = [cfg.decode_head, cfg.get('auxiliary_head') or []]
    heads = [head for x in heads for head in (x if isinstance(x, list) else [x])]
    if cfg.backbone.type == 'ResNetV1c':
        cfg.backbone.update(depth=18, base_channels=8, stem_channels=8)
        for part in [cfg.neck] if 'neck' in cfg else heads:
            part.in_channels = narrow(part.in_channels)
        if 'c1_in_channels' in cfg.decode_head:
            cfg.decode_head.c1_in_channels = narrow(cfg.decode_head.c1_in_channels)
    elif cfg.backbone.type == 'HRNet':
        for stage in cfg.backbone.extra.values():
            stage.num_modules, stage.num_blocks = 1, (1,) * stage.num_branches
    for head in heads:
        head.channels = min(head.channels, 32)
    return cfg


def build(student, teacher, **points):
    return tiny.build_distiller(student, teacher, points, scope='mmseg')


def logits(student, teacher, channels=19, **options):
    return dict(
        student=SEGMENTORS[student][1],
        teacher=SEGMENTORS[teacher][1],
        connector=dict(
            type='DiffKDConnector', student_channels=channels, teacher_channels=channels
        ),
        loss=dict(type='DISTLoss'),
        **options,
    )


def batch(labels=None):
    return tiny.labelled_pixels(SIZE, labels)


@pytest.mark.parametrize('name', SEGMENTORS)
def test_logits(name, family):
    cfg = segmentor(name)
    model = build(cfg, cfg, logits=logits(name, name))
    recorded = []
    model.distillation.logits.connector.register_forward_pre_hook(
        lambda module, args: recorded.extend(args[0])
    )
    log = tiny.train_step(model, batch())
    (level,) = recorded
    _, tap, stride = SEGMENTORS[name]
    assert level.shape == (2, 19, SIZE[0] // stride, SIZE[1] // stride)
    assert log['logits.loss_kd'] > 0 and log['logits.loss_diff'] > 0
    family('segmentor', name, tap, 'works')


def test_auxiliary_heads_in_a_list():
    cfg = segmentor('pspnet')
    cfg.auxiliary_head = [cfg.auxiliary_head]
    auxiliary = logits('pspnet', 'pspnet')
    auxiliary.update(student='auxiliary_head.0.conv_seg', teacher='auxiliary_head.0.conv_seg')
    model = build(cfg, cfg, logits=logits('pspnet', 'pspnet'), auxiliary=auxiliary)
    log = tiny.train_step(model, batch())
    assert log['auxiliary.loss_kd'] > 0 and log['auxiliary.loss_diff'] > 0


def test_heads_of_a_cascade():
    """In training the first one runs twice, on a blank image once."""
    cfg = segmentor('ocrnet')
    point = logits('ocrnet', 'ocrnet')
    point.update(student='decode_head.0.conv_seg', teacher='decode_head.0.conv_seg')
    with pytest.raises(DistillationError, match=r'2 levels.* 1\..*student_levels=\[0\] where'):
        tiny.train_step(build(cfg, cfg, logits=point), batch())
    point['student_levels'] = 0  # as [0]
    assert tiny.train_step(build(cfg, cfg, logits=point), batch())['logits.loss_kd'] > 0


def test_head_that_takes_data_samples():
    cfg = load_config('mmseg::mask2former/mask2former_r50_8xb2-90k_cityscapes-512x1024.py').model
    cfg = simplify(cfg)
    cfg.update(_scope_='mmseg')
    cfg.data_preprocessor.size = SIZE
    cfg.backbone.update(depth=18, base_channels=8, stem_channels=8)
    head = cfg.decode_head
    head.update(in_channels=narrow(head.in_channels), num_queries=10)
    head.pixel_decoder.encoder.num_layers = head.transformer_decoder.num_layers = 1
    path = 'decode_head.pixel_decoder.mask_feature'
    point = dict(
        student=path,
        teacher=path,
        connector=dict(type='DiffKDConnector', student_channels=256, teacher_channels=256),
        loss=dict(type='MSELoss'),
    )
    log = tiny.train_step(build(cfg, cfg, masks=point), batch())
    assert log['masks.loss_kd'] > 0 and log['masks.loss_diff'] > 0
    point['student'] = 'decode_head.cls_embed'
    with pytest.raises(DistillationError, match='per query.*the pixel decoder'):
        build(cfg, cfg, masks=point)


PAIRS = [
    ('bisenetv2', 'deeplabv3'),  # both of stride 8
    ('pspnet', 'upernet'),
    ('segformer', 'pspnet'),
    ('fast_scnn', 'ocrnet'),
    ('hrnet', 'bisenetv1'),
]


@pytest.mark.parametrize('student, teacher', PAIRS)
def test_pairs_of_different_families(student, teacher):
    """The student's logits are resized where their stride is another."""
    networks = segmentor(student), segmentor(teacher)
    if SEGMENTORS[student][2] != SEGMENTORS[teacher][2]:
        sizes = r'\(\d+, \d+\) in the student and \(\d+, \d+\) in the teacher.*resize=True'
        with pytest.raises(DistillationError, match=sizes):
            build(*networks, logits=logits(student, teacher))
    model = build(*networks, logits=logits(student, teacher, resize=True))
    log = tiny.train_step(model, batch())
    assert log['logits.loss_kd'] > 0 and log['logits.loss_diff'] > 0


def test_ignored_crop():
    """Nothing is labelled: the student's own loss is 0, the teacher still teaches."""
    model = build(segmentor('fcn'), segmentor('fcn'), logits=logits('fcn', 'fcn'))
    log = tiny.train_step(model, batch(torch.full((1, *SIZE), 255)))
    assert log['decode.loss_ce'] == log['aux.loss_ce'] == 0
    assert log['logits.loss_kd'] > 0


@pytest.mark.parametrize('label', [19, 254, -1])
def test_label_outside_the_classes(label):
    """MMSegmentation's loss refuses it, with or without a teacher."""
    labels = torch.zeros(1, *SIZE, dtype=torch.long)
    labels[0, 0, 0] = label
    model = build(segmentor('fcn'), segmentor('fcn'), logits=logits('fcn', 'fcn'))
    with pytest.raises(IndexError, match=f'Target {label} is out of bounds'):
        tiny.train_step(model, batch(labels))


def other_classes(family, num_classes):
    cfg = segmentor(family)
    cfg.decode_head.num_classes = cfg.auxiliary_head.num_classes = num_classes
    return cfg


def test_other_number_of_classes():
    """Named before the first step: with a connector, and without."""
    student, teacher = segmentor('pspnet'), other_classes('fcn', 150)
    point = logits('pspnet', 'fcn')
    with pytest.raises(DistillationError, match=r"'logits'.*150"):
        build(student, teacher, logits=point)
    point.pop('connector')
    message = "'logits': level 0 has 19 channels in the student and 150 in the teacher"
    with pytest.raises(DistillationError, match=message):
        build(student, teacher, logits=point)
    # A loss may take different channels by itself, those it was made for.
    point['loss'] = dict(
        type='CIRKDLoss', student_channels=19, teacher_channels=150, num_classes=19
    )
    assert tiny.train_step(build(student, teacher, logits=point), batch())['logits.loss_kd'] > 0
    point['loss']['teacher_channels'] = 19
    with pytest.raises(DistillationError, match='150 in the teacher, but the loss has .*=19'):
        build(student, teacher, logits=point)
    # Features know no classes.
    features = dict(
        student='backbone',
        teacher='backbone',
        student_levels=[3],
        teacher_levels=[3],
        connector=dict(type='DiffKDConnector', student_channels=64, teacher_channels=64),
        loss=dict(type='MSELoss'),
    )
    log = tiny.train_step(build(student, teacher, features=features), batch())
    assert log['features.loss_kd'] > 0


def test_two_classes():
    """The narrowest logits: hidden widths are at least 1."""
    student, teacher = other_classes('pspnet', 2), other_classes('fcn', 2)
    model = build(student, teacher, logits=logits('pspnet', 'fcn', channels=2))
    log = tiny.train_step(model, batch(torch.randint(2, (1, *SIZE))))
    assert torch.isfinite(log['logits.loss_kd'])


@pytest.mark.parametrize('loss', ['KLDivLoss', 'DISTLoss'])
def test_one_class(loss):
    """A binary segmentation with a sigmoid: over its scores a softmax would be constant."""
    cfg = other_classes('fcn', 2)
    for head in (cfg.decode_head, cfg.auxiliary_head):
        head.out_channels = 1
        head.loss_decode.use_sigmoid = True
    point = logits('fcn', 'fcn', channels=1)
    point['loss'] = dict(type=loss)
    with pytest.raises(DistillationError, match="'logits': the scores are of a single class"):
        tiny.train_step(build(cfg, cfg, logits=point), batch(torch.randint(2, (1, *SIZE))))
    for other in ('MSELoss', 'CWDLoss'):
        point['loss'] = dict(type=other)
        log = tiny.train_step(build(cfg, cfg, logits=point), batch(torch.randint(2, (1, *SIZE))))
        assert log['logits.loss_kd'] > 0
