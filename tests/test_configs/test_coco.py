"""The full-size configs: what they are made of, and a real step of each on a small image."""

import gc
from pathlib import Path
from typing import NamedTuple

import mmdet
import pytest
import tiny
import torch
import yaml
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper

from diffkd_mm.configs import load_config, zoo_checkpoint

CONFIGS = Path(__file__).parents[2] / 'configs'
MMDET_CONFIGS = Path(mmdet.__file__).parent / '.mim' / 'configs'


class Row(NamedTuple):
    """A row of Table 4 or 5: the zoo's entries with their AP, and what the recipe adds."""

    student: str
    student_ap: float
    teacher: str
    teacher_ap: float
    losses: dict  # the points' loss weights
    student_losses: tuple


DENSE = ('loss_cls', 'loss_bbox')
TWO_STAGE = (*DENSE, 'loss_rpn_cls', 'loss_rpn_bbox')
ROWS = {
    'faster_rcnn_r50_r101_diffkd': Row(
        'faster-rcnn_r50_fpn_2x_coco',
        38.4,
        'faster-rcnn_r101_fpn_2x_coco',
        39.8,
        dict(fpn=5.0, reg=1.0),
        TWO_STAGE,
    ),
    'retinanet_r50_r101_diffkd': Row(
        'retinanet_r50_fpn_2x_coco',
        37.4,
        'retinanet_r101_fpn_2x_coco',
        38.9,
        dict(fpn=5.0, reg=1.0),
        DENSE,
    ),
    'fcos_r50_r101_diffkd': Row(
        'fcos_r50-caffe_fpn_gn-head_ms-640-800-2x_coco',
        38.5,
        'fcos_r101-caffe_fpn_gn-head_ms-640-800-2x_coco',
        40.8,
        dict(fpn=5.0),
        (*DENSE, 'loss_centerness'),
    ),
    'faster_rcnn_r50_cascade_x101_diffkd': Row(
        'faster-rcnn_r50_fpn_2x_coco',
        38.4,
        'cascade-mask-rcnn_x101-64x4d_fpn_20e_coco',
        45.6,
        dict(fpn=5.0, reg=1.0),
        TWO_STAGE,
    ),
    # The paper's teacher has 41.2 and is not in the zoo.
    'retinanet_r50_x101_diffkd': Row(
        'retinanet_r50_fpn_2x_coco',
        37.4,
        'retinanet_x101-64x4d_fpn_1x_coco',
        41.0,
        dict(fpn=5.0, reg=1.0),
        DENSE,
    ),
    'reppoints_r50_x101_diffkd': Row(
        'reppoints-moment_r50_fpn-gn_head-gn_2x_coco',
        38.6,
        'reppoints-moment_x101-dconv-c3-c5_fpn-gn_head-gn_2x_coco',
        44.2,
        dict(fpn=15.0, refine=0.2, init=0.1),
        ('loss_cls', 'loss_pts_init', 'loss_pts_refine'),
    ),
}
TWINS = [f'{name}_attn' for name in ROWS]


def load(name):
    return Config.fromfile(CONFIGS / f'{name}.py')


def build(cfg):
    """The distiller, with random weights in place of the downloads."""
    cfg.model.student.backbone.init_cfg = None
    model = tiny.build(cfg.model)
    model.student.init_weights()
    teacher = load_config(cfg.model.teacher.config).model
    model.use_teacher(tiny.build(dict(teacher, _scope_='mmdet')))
    return model.train()


@pytest.fixture(scope='module')
def zoo():
    """Box AP and weights by the name of a config, as MMDetection's metafiles record them."""
    entries = {}
    for metafile in MMDET_CONFIGS.glob('*/metafile.yml'):
        content = yaml.safe_load(metafile.read_text(encoding='utf-8'))
        for model in content['Models'] if isinstance(content, dict) else content:
            for result in model.get('Results') or []:
                ap = result.get('Metrics', {}).get('box AP')
                entries.setdefault(Path(model['Config']).stem, (ap, model.get('Weights')))
    return entries


@pytest.mark.parametrize('name', [*ROWS, *TWINS])
def test_student_and_teacher_are_those_of_the_table(name, zoo):
    row = ROWS[name.removesuffix('_attn')]
    assert zoo[row.student][0] == row.student_ap
    assert zoo[row.teacher][0] == row.teacher_ap
    cfg = load(name)
    assert Path(cfg.model.teacher.config).stem == row.teacher
    assert cfg.model.teacher.checkpoint == 'zoo'
    assert zoo_checkpoint(cfg.model.teacher.config) == zoo[row.teacher][1]
    # Schedule, data and everything else are the student's.
    package = row.student.split('_')[0].split('-moment')[0].replace('-', '_')
    base = load_config(f'mmdet::{package}/{row.student}.py')
    assert cfg.train_cfg == base.train_cfg and cfg.train_dataloader == base.train_dataloader
    assert cfg.optim_wrapper.optimizer == base.optim_wrapper.optimizer
    assert cfg.param_scheduler[1].milestones == base.param_scheduler[1].milestones
    assert cfg.model.student.backbone == base.model.backbone
    clipped, warm_up = cfg.optim_wrapper.get('clip_grad'), cfg.param_scheduler[0].end
    if 'retinanet' in name:
        assert (clipped.max_norm, warm_up) == (35, 1000)
    else:
        assert clipped == base.optim_wrapper.get('clip_grad') and warm_up == 500
        assert 'fcos' not in name or clipped.max_norm == 35


@pytest.mark.parametrize('name', [*ROWS, *TWINS])
def test_losses_and_parameters(name):
    cfg, row = load(name), ROWS[name.removesuffix('_attn')]
    torch.manual_seed(0)
    model = build(cfg)
    points = model.distillation
    assert {k: point.loss.loss_weight for k, point in points.items()} == row.losses
    assert points.fpn.loss.attention == ('spatial' if name in TWINS else None)
    levels = points.fpn.connector.levels
    assert len(levels) == 5
    # The paper's 0.21 M, and the table of the time embedding.
    assert sum(p.numel() for p in levels[0].denoiser.parameters()) == 207_872 + 1280 * 256
    optimizer = build_optim_wrapper(model, cfg.optim_wrapper)
    before = model.backbone.layer4[0].conv1.weight.detach().clone()
    log = model.train_step(tiny.batch(2, 128), optimizer)
    expected = {*row.student_losses, 'fpn.loss_diff', *(f'{k}.loss_kd' for k in row.losses)}
    assert {key for key in log if 'loss_' in key} == expected
    assert all(torch.isfinite(value) for value in log.values())
    assert not torch.equal(model.backbone.layer4[0].conv1.weight, before)
    del model, optimizer
    gc.collect()


@pytest.mark.parametrize('name', ROWS)
def test_twin_differs_in_the_attention_alone(name):
    plain, twin = load(name), load(f'{name}_attn')
    assert twin.model.points.fpn.loss.pop('attention') == 'spatial'
    assert plain.to_dict() == twin.to_dict()


def test_cascade_has_the_students_deltas():
    """The first stage regresses what the student does, on the same scale and for all classes."""
    cfg = load('faster_rcnn_r50_cascade_x101_diffkd')
    teacher = load_config(cfg.model.teacher.config).model.roi_head.bbox_head[0]
    student = cfg.model.student.roi_head.bbox_head
    assert student.reg_class_agnostic and teacher.reg_class_agnostic
    assert student.bbox_coder == teacher.bbox_coder


def test_fcos_student():
    plain = load_config(f'mmdet::fcos/{ROWS["fcos_r50_r101_diffkd"].student}.py').model
    ablation = load('ablations/fcos_r50_r101_diffkd_zoo_student').model.student
    student = load('fcos_r50_r101_diffkd').model.student
    assert student.bbox_head.norm_on_bbox and student.bbox_head.loss_bbox.type == 'GIoULoss'
    zoo, bare, ours = (
        tiny.build(dict(cfg, _scope_='mmdet', init_cfg=None)) for cfg in (plain, ablation, student)
    )
    for name in ('norm_on_bbox', 'center_sampling', 'conv_bias', 'centerness_on_reg'):
        assert getattr(zoo.bbox_head, name) == getattr(bare.bbox_head, name)
    assert str(zoo) == str(bare) != str(ours)
    assert zoo.test_cfg == bare.test_cfg != ours.test_cfg


FEATURES = {'plain': None, 'diffkd': 'DiffKDConnector'}


@pytest.mark.parametrize('kind', FEATURES)
@pytest.mark.parametrize('what', ['fpn', 'cls', 'reg', 'all'])
def test_ablation_of_the_outputs(what, kind):
    """Appendix C.5: eight configs that differ in their points alone."""
    cfg = load(f'ablations/retinanet_r50_r101_{what}_{kind}')
    points = cfg.model.pop('points')
    assert set(points) == ({'fpn', 'cls', 'reg'} if what == 'all' else {what})
    for point in points.values():
        assert (point.connector and point.connector.type) == FEATURES[kind]
    reference = load('retinanet_r50_r101_diffkd')
    reference.model.pop('points')
    assert cfg.to_dict() == reference.to_dict()


def test_ablation_of_the_denoiser():
    light, heavy = (
        load(f'ablations/retinanet_r50_r101_diffkd_1x{suffix}') for suffix in ('', '_unet')
    )
    assert heavy.model.points.fpn.connector.pop('denoiser') == dict(type='UNetDenoiser')
    assert light.to_dict() == heavy.to_dict()
    base = load_config('mmdet::retinanet/retinanet_r50_fpn_1x_coco.py')
    assert light.train_cfg == base.train_cfg and light.train_cfg.max_epochs == 12
    assert light.param_scheduler[1].milestones == base.param_scheduler[1].milestones


@pytest.fixture(scope='module')
def student():
    """A student whose backbone's features are small: fast, with the heads of the full size."""
    return tiny.shrink(load('retinanet_r50_x101_diffkd').model.student)


@pytest.mark.parametrize(
    'name',
    [
        *(f'baselines/retinanet_r50_x101_{x}' for x in ('fitnet', 'fgd', 'pkd', 'cwd')),
        *(f'ablations/retinanet_r50_r101_{x}' for x in ('all_plain', 'all_diffkd')),
        'ablations/retinanet_r50_r101_diffkd_1x_unet',
        *(f'ablations/retinanet_r50_x101_diffkd_{x}' for x in ('inherit', 'start500', 'fgd')),
    ],
)
def test_step_of_baselines_and_ablations(name, student, tmp_path):
    """Backbones are small here, all else is what the configs say."""
    if name.endswith('unet'):
        pytest.importorskip('diffusers')
    cfg = load(name)
    cfg.model.student = student
    cfg.model.teacher = dict(
        config=dict(model=student, default_scope='mmdet'), checkpoint=str(tmp_path / 'teacher.pth')
    )
    torch.save(tiny.build(student).state_dict(), tmp_path / 'teacher.pth')
    model = tiny.build(cfg.model)
    model.init_weights()
    log = model.train().train_step(tiny.batch(2, 96), build_optim_wrapper(model, cfg.optim_wrapper))
    points = cfg.model.points
    assert {f'{k}.loss_kd' for k in points} == {k for k in log if k.endswith('.loss_kd')}
    assert all(torch.isfinite(value) and value >= 0 for value in log.values())
    if cfg.model.get('inherit'):
        mine, theirs = (x.neck.fpn_convs[0].conv.bias for x in (model, model.teacher.model))
        assert (mine - theirs).abs().max() < 0.01  # one step away
    if 'baselines' in name:
        assert set(points) == {'fpn'}
        num_levels = len(points.fpn.get('strides', range(5)))
        assert num_levels == (4 if name.endswith(('pkd', 'cwd')) else 5)


TWO_STAGE_FGD = dict(
    channels=256,
    foreground_weight=5e-5,
    background_weight=2.5e-5,
    attention_weight=5e-5,
    global_weight=5e-7,
)
ANCHOR_FREE_FGD = dict(
    channels=256,
    foreground_weight=1.6e-3,
    background_weight=8e-4,
    attention_weight=8e-4,
    global_weight=8e-6,
)
HEADS = ['neck', 'bbox_head']
# What FGD's authors publish for each pair: weights of the loss, and what the student inherits.
FGD = {
    'faster_rcnn_r50_r101': (TWO_STAGE_FGD, ['neck', 'rpn_head', 'roi_head']),
    'faster_rcnn_r50_cascade_x101': (TWO_STAGE_FGD, None),
    'retinanet_r50_r101': (dict(channels=256, attention_weight=5e-4), HEADS),
    'retinanet_r50_x101': (dict(channels=256, attention_weight=5e-4), HEADS),
    'fcos_r50_r101': (dict(ANCHOR_FREE_FGD, tau=0.8), HEADS),
    'reppoints_r50_x101': (ANCHOR_FREE_FGD, HEADS),
}
FITNET = ['faster_rcnn_r50_r101', 'retinanet_r50_r101', 'retinanet_r50_x101']


def check_all_but_the_points(cfg, pair):
    main = load(f'{pair}_diffkd')
    assert cfg.model.student == main.model.student and cfg.model.teacher == main.model.teacher
    for key in ('train_cfg', 'train_dataloader', 'param_scheduler', 'custom_imports'):
        assert cfg[key] == main[key]
    assert cfg.optim_wrapper.optimizer == main.optim_wrapper.optimizer


@pytest.mark.parametrize('pair, expected', FGD.items())
def test_fgd(pair, expected):
    cfg = load(f'baselines/{pair}_fgd')
    check_all_but_the_points(cfg, pair)
    loss, inherit = expected
    point = dict(student='neck', teacher='neck', loss=dict(type='FGDLoss', **loss))
    if 'faster' in pair:  # P6 is a part of P5
        point['strides'] = [4, 8, 16, 32]
    assert cfg.model.points == dict(fpn=point)
    assert cfg.model.get('inherit') == inherit
    assert cfg.optim_wrapper.clip_grad == dict(max_norm=35, norm_type=2)


@pytest.mark.parametrize('pair', FITNET)
def test_fitnet(pair):
    cfg = load(f'baselines/{pair}_fitnet')
    check_all_but_the_points(cfg, pair)
    connector = dict(type='ConvConnector', student_channels=256, teacher_channels=256)
    loss = dict(type='MSELoss', loss_weight=1.0)
    point = dict(student='neck', teacher='neck', connector=connector, loss=loss)
    assert cfg.model.points == dict(fpn=point)


@pytest.mark.parametrize(
    'name',
    [
        'baselines/faster_rcnn_r50_r101_fgd',
        'baselines/fcos_r50_r101_fgd',
        'baselines/reppoints_r50_x101_fgd',
        'ablations/fcos_r50_r101_diffkd_zoo_student_reg',
    ],
)
def test_step_with_the_pairs_own_heads(name, tmp_path):
    """Backbones are small here; necks and heads are those of the student and of its teacher."""
    cfg = load(name)
    teacher = tiny.shrink(load_config(cfg.model.teacher.config).model)
    cfg.model.student = tiny.shrink(cfg.model.student)
    path = str(tmp_path / 'teacher.pth')
    cfg.model.teacher = dict(config=dict(model=teacher, default_scope='mmdet'), checkpoint=path)
    torch.save(tiny.build(teacher).state_dict(), path)
    model = tiny.build(cfg.model)
    model.init_weights()
    for part in cfg.model.get('inherit', ()):
        theirs = model.teacher.model.get_submodule(part).state_dict()
        mine = model.student.get_submodule(part).state_dict()
        shared = mine.keys() & theirs.keys()
        # FCOS's changed student alone has more: biases of its convolutions.
        assert all(torch.equal(mine[k], theirs[k]) for k in shared)
        assert shared == mine.keys() or 'fcos' in name
    log = model.train().train_step(
        tiny.batch(2, 128), build_optim_wrapper(model, cfg.optim_wrapper)
    )
    points = cfg.model.points
    assert {f'{k}.loss_kd' for k in points} == {k for k in log if k.endswith('.loss_kd')}
    assert all(torch.isfinite(value) and value >= 0 for value in log.values())


def test_regression_of_fcos():
    """One point more than the zoo's student, which predicts logarithms as its teacher does."""
    cfg = load('ablations/fcos_r50_r101_diffkd_zoo_student_reg')
    without = load('ablations/fcos_r50_r101_diffkd_zoo_student')
    reg = cfg.model.points.pop('reg')
    assert reg.student == reg.teacher == 'bbox_head.conv_reg'
    assert cfg.to_dict() == without.to_dict()
    teacher = load_config(cfg.model.teacher.config).model
    assert not cfg.model.student.bbox_head.norm_on_bbox
    assert not teacher.bbox_head.get('norm_on_bbox', False)


@pytest.mark.parametrize('teacher', ['r101', 'x101'])
def test_inheriting(teacher):
    cfg = load(f'ablations/retinanet_r50_{teacher}_diffkd_inherit')
    assert cfg.model.pop('inherit') == HEADS
    assert cfg.to_dict() == load(f'retinanet_r50_{teacher}_diffkd').to_dict()


@pytest.mark.parametrize(
    'name, pairs',
    {
        'faster_rcnn_r50_class_agnostic': ['faster_rcnn_r50_cascade_x101'],
        'fcos_r50_giou': ['fcos_r50_r101'],
        'retinanet_r50_clipped': ['retinanet_r50_r101', 'retinanet_r50_x101'],
    }.items(),
)
def test_changed_students_alone(name, pairs):
    """The control of a row: its student and schedule without a teacher."""
    alone = load(f'students/{name}')
    for pair in pairs:
        cfg = load(f'{pair}_diffkd')
        assert cfg.model.student == alone.model
        for key in ('train_cfg', 'train_dataloader', 'param_scheduler', 'optim_wrapper'):
            assert cfg[key] == alone[key]
