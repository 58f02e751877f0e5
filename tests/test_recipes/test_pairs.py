"""Any pair: what is chosen for it, and that what is written takes a step."""

import models
import pytest
import tiny
from mmengine.registry import init_default_scope

from diffkd_mm.analysis.models import build_with_random_weights, random_batch
from diffkd_mm.configs import load_config
from diffkd_mm.errors import DistillationError
from diffkd_mm.recipes import NamedModel, config_text, recommend_for, survey


@pytest.fixture(scope='module')
def surveyed(tmp_path_factory):
    """Looks at a model of the tests, once."""
    folder = tmp_path_factory.mktemp('models')
    known = {}

    def look(name):
        if name not in known:
            path = models.write_model(name, folder)
            known[name] = survey(NamedModel(str(path), None), 'student')
        return known[name]

    return look


# Student, teacher, method; per point what is decisive in it; what is said of the rest.
DETECTORS = [
    ('retinanet', 'retinanet24', 'diffkd', dict(fpn='weight=5', reg='retina_reg'), ''),
    ('retinanet', 'retinanet24', 'diffkd_attn', dict(fpn="attention='spatial'", reg=''), ''),
    ('retinanet', 'retinanet24', 'deep_projector', dict(fpn='DeepProjectorConnector', reg=''), ''),
    ('retinanet', 'gfl', 'diffkd', dict(fpn='strides=[8, 16, 32]'), 'heads differ'),
    ('retinanet', 'faster', 'fitnet', dict(fpn='ConvConnector'), ''),
    ('retinanet', 'deformable', 'diffkd', dict(fpn='strides=[8, 16, 32]'), 'per query'),
    ('fcos', 'fcos', 'diffkd', dict(fpn=''), 'learned number for each level'),
    ('fcos', 'retinanet', 'pkd', dict(fpn='ConvConnector'), ''),
    ('gfl', 'gfl', 'cwd', dict(fpn='strides=[8, 16, 32, 64]'), ''),
    ('atss', 'gfl', 'fgd', dict(fpn='FGDLoss'), ''),
    ('faster', 'faster', 'diffkd', dict(fpn='', reg="regions='roi_head.bbox_roi_ex"), ''),
    ('faster', 'cascade', 'diffkd', dict(fpn=''), 'numbers and the teacher'),
    ('agnostic_faster', 'cascade', 'diffkd', dict(fpn='', reg='bbox_head.0.fc_reg'), ''),
    ('cascade', 'agnostic_faster', 'diffkd', dict(fpn='', reg='bbox_roi_extractor.0'), ''),
    ('faster', 'mask', 'fgd', dict(fpn='strides=[4, 8, 16, 32]'), ''),
    ('faster', 'mask', 'kd', dict(logits='fc_cls'), ''),
    ('mask', 'mask', 'diffkd', dict(fpn='', reg=''), ''),
    ('reppoints', 'reppoints', 'diffkd', dict(fpn='weight=15', refine='', init=''), ''),
    ('yolox', 'rtmdet', 'diffkd', dict(fpn=''), 'heads differ'),
    ('yolof', 'fcos', 'diffkd', dict(fpn='strides=[32]'), 'heads differ'),
    ('retinanet', 'sparse', 'diffkd', dict(fpn='strides=[8, 16, 32]'), 'does not run on a blank'),
    ('retinanet', 'resnet34', 'fitnet', dict(feature="teacher='backbone'"), ''),
]
SEGMENTORS = [
    ('pspnet', 'deeplabv3', 'diffkd', dict(logits='DISTLoss'), ''),
    ('segformer', 'fcn', 'diffkd', dict(logits='resize=True'), ''),
    ('bisenetv1', 'ocrnet', 'cwd', dict(logits='decode_head.1.conv_seg'), ''),
    ('pointrend_r50', 'fcn', 'kd', dict(logits='student_levels=[0]'), ''),
    ('semantic_fpn', 'fcn', 'kd', dict(logits='KLDivLoss'), ''),
    ('fcn', 'pspnet', 'dist', dict(logits='DISTLoss'), ''),
    ('fcn', 'fcn4', 'diffkd', dict(feature='levels='), 'has 19 classes and the teacher 4'),
    ('fcn', 'mask2former', 'fitnet', dict(feature=''), 'one per query'),
    ('segmenter', 'fcn', 'diffkd', dict(feature='teacher_levels'), 'in no layer of its head'),
    ('fcn', 'segmenter', 'diffkd', dict(logits="teacher='decode_head'"), ''),
    ('fcn', 'resnet34', 'pkd', dict(feature='resize=True'), ''),
    ('fcn', 'retinanet', 'pkd', dict(feature=''), ''),
]
CLASSIFIERS = [
    ('resnet18', 'resnet34', 'diffkd', dict(feature="student='backbone'", logits='head.fc'), ''),
    ('resnet18', 'resnet34', 'deep_projector', dict(feature='', logits='DeepProjector'), ''),
    ('imagenet18', 'imagenet34', 'diffkd', dict(feature='latent_channels=1024', logits=''), ''),
    ('mobilenet', 'resnet34', 'kd', dict(logits='tau=4'), ''),
    ('resnet18', 'vit', 'diffkd', dict(feature='drop_tokens=1', logits=''), ''),
    ('vit', 'vit8', 'fitnet', dict(feature="channels_last='both'"), ''),
    ('vit', 'deit', 'diffkd', dict(feature='drop_tokens=dict', logits=''), ''),
    ('resnet18', 'swin', 'dist', dict(logits='beta=2'), ''),
    ('tnt', 'resnet18', 'diffkd', dict(feature="teacher='neck'", logits=''), ''),
    ('bare', 'resnet18', 'diffkd', dict(logits="student='backbone'"), 'ends in class scores'),
    ('resnet18', 'bare', 'kd', dict(logits="teacher='backbone'"), ''),
    ('swin', 'mobilenet', 'cwd', dict(feature=''), ''),
    ('mobilenet', 'fcn', 'diffkd', dict(feature='teacher_levels'), 'have none alike'),
    ('resnet18', 'resnet100', 'diffkd', dict(feature=''), '10 classes and the teacher 100'),
]


def test_a_weight_of_other_families_says_so(surveyed):
    """The paper's weight is for four families of detectors."""
    known = recommend_for(surveyed('fcos'), surveyed('fcos')).points['fpn'].why
    other = recommend_for(surveyed('gfl'), surveyed('fcos')).points['fpn'].why
    assert "the paper's for detectors on COCO (appendix B.3)" in known
    assert other == f'{known}, none of this family: watch its size'


@pytest.mark.parametrize(
    ('name', 'expected'),
    [
        ('gfl', dict(foreground_weight=None, attention_weight=5e-4, tau=None)),  # an anchor a cell
        ('fcos', dict(foreground_weight=1.6e-3, attention_weight=8e-4, tau=0.8)),
        ('yolox', dict(foreground_weight=2e-3, attention_weight=1e-3, tau=None)),
        ('reppoints', dict(foreground_weight=1.6e-3, attention_weight=8e-4, tau=None)),
        ('faster', dict(foreground_weight=5e-5, attention_weight=5e-5, tau=None)),
    ],
)
def test_weights_of_fgd_are_those_of_its_authors(surveyed, name, expected):
    loss = recommend_for(surveyed(name), surveyed(name), 'fgd').points['fpn'].config['loss']
    assert {key: loss.get(key) for key in expected} == expected


@pytest.mark.parametrize('method', ['kd', 'dist'])
def test_labels_of_which_an_image_has_several(surveyed, method):
    """A softmax would take them for exclusive, as those of mixed images are."""
    pair = surveyed('multi_label'), surveyed('multi_label')
    with pytest.raises(DistillationError, match='of several classes, .* no distribution'):
        recommend_for(*pair, method)
    assert recommend_for(*pair).points['logits'].config['loss']['type'] == 'MSELoss'
    mixed = recommend_for(surveyed('mixed_label'), surveyed('resnet34'), method)
    assert mixed.points['logits'].config['loss']['type'] in ('KLDivLoss', 'DISTLoss')


PAIRS = DETECTORS + SEGMENTORS + CLASSIFIERS


@pytest.mark.parametrize(
    ('student', 'teacher', 'method', 'points', 'unmatched'),
    PAIRS,
    ids=['-'.join(pair[:3]) for pair in PAIRS],
)
def test_written_config_takes_a_step(
    surveyed, tmp_path, student, teacher, method, points, unmatched
):
    recipe = recommend_for(surveyed(student), surveyed(teacher), method, 'teacher.pth')
    path = tmp_path / 'config.py'
    path.write_text(config_text(recipe, tmp_path))
    cfg = load_config(str(path))
    written = path.read_text().split('points=')[1]
    assert list(cfg.model.points) == list(points)
    assert all(text in written for text in points.values()), written
    assert unmatched in '\n'.join(recipe.unmatched)
    assert bool(unmatched) == bool(recipe.unmatched), recipe.unmatched
    init_default_scope(cfg.default_scope)
    model = build_with_random_weights(cfg).train()
    fixed = dict(vit=64, tnt=48)  # pixels that networks are made for
    side = fixed.get(teacher[:3], fixed.get(student[:3], 128))
    batch = random_batch(model.student, 2, (side, side))
    log = tiny.train_step(model, batch, lr=1e-5)
    assert all(log[f'{name}.loss_kd'] > 0 for name in points)
