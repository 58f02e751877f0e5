"""The configs of the study on blood cells: what they differ in, and a step of each."""

from pathlib import Path

import pytest
import tiny
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper

import diffkd_mm  # noqa: F401  registers the distiller

FOLDER = Path(__file__).parents[2] / 'configs' / 'bccd'
# Connector, attention and losses of each method.
METHODS = {
    'fitnet': ('ConvConnector', None, {'fpn.loss_kd'}),
    'diffkd': ('DiffKDConnector', None, {'fpn.loss_kd', 'fpn.loss_diff'}),
    'diffkd_attn': ('DiffKDConnector', 'spatial', {'fpn.loss_kd', 'fpn.loss_diff'}),
}


def load(name):
    return Config.fromfile(FOLDER / f'{name}.py')


def step(model, cfg):
    wrapper = build_optim_wrapper(model.train(), cfg.optim_wrapper)
    log = model.train_step(tiny.batch(2, 128, num_classes=3), wrapper)
    assert all(torch.isfinite(value) for value in log.values())
    return {key for key in log if 'loss_' in key}


@pytest.fixture(scope='module')
def teacher():
    return tiny.build(load('gfl_bccd_teacher').model, 'mmdet')


def test_all_configs_are_tested():
    names = {f'retinanet_bccd_{name}' for name in ('student', *METHODS)}
    assert {path.stem for path in FOLDER.glob('*.py')} == names | {'gfl_bccd_teacher'}


def test_step_alone(teacher):
    assert step(teacher, load('gfl_bccd_teacher')) == {'loss_cls', 'loss_bbox', 'loss_dfl'}
    cfg = load('retinanet_bccd_student')
    assert step(tiny.build(cfg.model, 'mmdet'), cfg) == {'loss_cls', 'loss_bbox'}


@pytest.mark.parametrize('method', METHODS)
def test_step(method, teacher):
    connector, attention, losses = METHODS[method]
    cfg, alone = load(f'retinanet_bccd_{method}'), load('retinanet_bccd_student')
    assert cfg.model.student == alone.model
    assert all(cfg[key] == alone[key] for key in alone if key != 'model')
    last = load('gfl_bccd_teacher').train_cfg.max_iters
    assert cfg.model.teacher.checkpoint == f'work_dirs/bccd/teacher/iter_{last}.pth'
    point = cfg.model.points.fpn
    assert point.strides == [8, 16, 32] and point.connector.type == connector
    assert point.loss.loss_weight == 5.0 and point.loss.get('attention') == attention
    cfg.model.teacher.checkpoint = 'none'
    model = tiny.build(cfg.model, 'mmdet')
    model.use_teacher(teacher.eval())
    assert step(model, cfg) == {'loss_cls', 'loss_bbox', *losses}
