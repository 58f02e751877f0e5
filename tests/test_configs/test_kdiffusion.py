"""KDiffusion's configs: each builds, finds its taps in both models, and folds into its student."""

from copy import deepcopy
from functools import cache
from pathlib import Path

import pytest
import tiny
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmpretrain.structures import DataSample

import diffkd_mm  # noqa: F401  registers the distiller
from diffkd_mm.distillers.teacher import FrozenTeacher

CONFIGS = Path(__file__).parents[2] / 'configs' / 'kdiffusion'
NAMES = sorted(path.stem for path in CONFIGS.glob('*_*.py') if 'diffkd' not in path.stem)


@cache
def teacher_of(config):
    """A teacher with random weights; a config's teacher is the same for all of its pairs."""
    return MODELS.build(FrozenTeacher(config, 'none').model_config())


def built(name):
    cfg = Config.fromfile(CONFIGS / f'{name}.py')
    init_default_scope(cfg.default_scope)
    model_cfg = deepcopy(cfg.model)
    if 'data_preprocessor' in cfg:
        model_cfg.setdefault('data_preprocessor', cfg.data_preprocessor)
    return cfg, MODELS.build(model_cfg)


@pytest.mark.parametrize('name', [x for x in NAMES if x.endswith(('_guided', '_swin_multi'))])
def test_config_fits_both_models(name):
    """The fullest config of each pair; the others are parts of it."""
    cfg, model = built(name)
    model.use_teacher(teacher_of(cfg.model.teacher.config))
    layers = [point.options.student for point in model.distillation.values()]
    assert sorted(layers) == sorted(cfg.model.branches.layers) and len(layers) == 3
    guided = [point.options.guidance is not None for point in model.distillation.values()]
    assert guided == [name.endswith('_guided')] * 3


@pytest.mark.parametrize('name', NAMES)
def test_points_are_those_of_the_fullest_config(name):
    pair, _, kind = name.rpartition('_')
    fullest = f'{pair}_{"multi" if pair.endswith("swin") else "guided"}'
    full, cfg = (Config.fromfile(CONFIGS / f'{x}.py').model for x in (fullest, name))
    points = {key: dict(point) for key, point in cfg.points.items()}
    assert len(points) == (1 if kind in ('single', 'average') else 3)
    assert sorted(cfg.branches.layers) == sorted(p['student'] for p in points.values())
    chains = [point.pop('chain') for point in points.values()]
    guided = [point.pop('guidance', None) is not None for point in points.values()]
    expected = 'AverageChain' if kind == 'average' else 'KDiffusionChain'
    assert {chain.type for chain in chains} == {expected}
    assert guided == [kind == 'guided'] * len(points)
    for key, point in points.items():
        fullest_point = dict(full.points[key], chain=None, guidance=None)
        assert dict(point, chain=None, guidance=None) == fullest_point
    assert (cfg.student, cfg.teacher) == (full.student, full.teacher)


def test_there_is_a_config_of_every_row():
    pairs = [
        'shufflenet_v1_resnet32x4',
        'shufflenet_v1_wrn40_2',
        'mobilenet_v2_vgg13',
        'mobilenet_v2_resnet50',
        'shufflenet_v2_resnet32x4',
    ]
    students = ['mobilenet_v2', 'mobilenet_v3', 'resnet18', 'shufflenet_v1', 'shufflenet_v2']
    kinds = ['average', 'single', 'multi', 'guided']
    expected = [f'{pair}_{kind}' for pair in pairs for kind in kinds]
    expected += [f'{student}_swin_{kind}' for student in students for kind in kinds[1:3]]
    assert NAMES == sorted(expected)


@pytest.mark.parametrize('name', ['mobilenet_v2_vgg13_guided', 'mobilenet_v3_swin_multi'])
def test_folds_into_its_student(name):
    cfg, model = built(name)
    weights = model.fold().state_dict()
    plain = MODELS.build(dict(cfg.model.student, data_preprocessor=cfg.data_preprocessor)).eval()
    plain.load_state_dict(weights, strict=True)
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.allclose(model.eval()(x), plain(x), atol=1e-5)


@pytest.mark.parametrize(
    'name', ['retinanet_r50_r101_diffkd_kdiffusion', 'deeplabv3_r18_r101_diffkd_kdiffusion']
)
def test_beside_diffkd(name):
    cfg, model = built(name)
    assert any(point.chain is None for point in model.distillation.values())
    assert any(point.chain is not None for point in model.distillation.values())
    model.use_teacher(teacher_of(cfg.model.teacher.config))


# The trainings of docs/results.md: losses of a step by the name of the config.
GUIDED = {'loss_kd', 'loss_guide'}
SMALL = {
    'digits/retinanet_digits_branches': {},
    'digits/retinanet_digits_average': {'p3': {'loss_kd'}, 'p4': {'loss_kd'}},
    'digits/retinanet_digits_single': {'p3': {'loss_kd'}},
    'digits/retinanet_digits_multi': {'p3': {'loss_kd'}, 'p4': {'loss_kd'}},
    'digits/retinanet_digits_guided': {'p3': GUIDED, 'p4': GUIDED},
    'cifar10/resnet8_branches': {},
    'cifar10/resnet8_resnet20_average': {'last': {'loss_kd'}},
    'cifar10/resnet8_resnet20_single': {'last': {'loss_kd'}},
    'cifar10/resnet8_resnet20_guided': {'last': GUIDED},
}


@pytest.mark.parametrize('name', SMALL)
def test_small_pair_trains_a_step_and_folds(name):
    cfg, model = built(name)
    points = SMALL[name]
    if points:
        model.use_teacher(teacher_of(cfg.model.teacher.config))
    detects = name.startswith('digits')
    if detects:
        data = tiny.batch(2, 96)
    else:
        images = torch.randint(256, (4, 3, 16, 16), dtype=torch.uint8)
        samples = [DataSample().set_gt_label(1) for _ in images]
        data = dict(inputs=list(images), data_samples=samples)
    losses = model(**model.data_preprocessor(data, True), mode='loss')
    expected = {f'{point}.{loss}' for point, found in points.items() for loss in found}
    assert {key for key in losses if '.' in key} == expected
    assert len(model.student.get_submodule(cfg.model.branches.layers[0]).branches) == 4
    plain = MODELS.build(Config.fromfile(CONFIGS / f'{student_of(name)}.py').model)
    plain.load_state_dict(model.fold().state_dict(), strict=True)


def student_of(name):
    """The plain student's config beside a small pair's."""
    folder = name.partition('/')[0]
    return {
        'digits': '../study/digits/retinanet_digits_student',
        'cifar10': 'cifar10/resnet8_student',
    }[folder]


def test_all_small_pairs_are_tested_on_the_splits_of_the_study():
    found = {
        f'{path.parent.name}/{path.stem}'
        for folder in ('digits', 'cifar10')
        for path in (CONFIGS / folder).glob('*.py')
    }
    assert found == {*SMALL, 'cifar10/resnet8_student', 'cifar10/resnet20_teacher'}
    for name in found:
        cfg = Config.fromfile(CONFIGS / f'{name}.py')
        splits = [cfg[f'{x}_dataloader'].dataset for x in ('train', 'val', 'test')]
        splits = [x.get('dataset', x).split for x in splits]
        assert splits == ['train', 'tune', 'test']
        assert cfg.train_cfg.val_interval == cfg.train_cfg.max_iters
