"""The configs of the CamVid study: what students and teacher differ in, and a step of each."""

from pathlib import Path

import pytest
import tiny
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import HOOKS

import diffkd_mm  # noqa: F401  registers the distiller

FOLDER = Path(__file__).parents[2] / 'configs' / 'camvid'
METHODS = {
    'kd': {'logits.loss_kd'},
    'dist': {'logits.loss_kd'},
    'diffkd': {'logits.loss_kd', 'logits.loss_diff'},
}


def load(name, folder=FOLDER):
    return Config.fromfile(folder / f'deeplabv3_camvid_{name}.py')


def step(model, cfg, shape=(112, 160)):
    data = tiny.labelled_pixels(shape, torch.randint(11, (1, *shape)))
    log = model.train().train_step(data, build_optim_wrapper(model, cfg.optim_wrapper))
    assert all(torch.isfinite(value) for value in log.values())
    return {key for key in log if 'loss_' in key}


@pytest.fixture(scope='module')
def teacher():
    return tiny.build(load('teacher').model, 'mmseg')


@pytest.mark.parametrize('name', ['student', 'teacher'])
def test_step_alone(name, teacher):
    cfg = load(name)
    model = teacher if name == 'teacher' else tiny.build(cfg.model, 'mmseg')
    assert step(model, cfg, cfg.crop_size) == {'decode.loss_ce', 'aux.loss_ce'}


@pytest.mark.parametrize('method, losses', METHODS.items())
def test_step(method, losses, teacher):
    cfg, alone = load(method), load('student')
    assert cfg.model.student == alone.model
    assert all(cfg[key] == alone[key] for key in alone if key != 'model')
    last = load('teacher').max_iters
    assert cfg.model.teacher.checkpoint == f'work_dirs/camvid/teacher/iter_{last}.pth'
    cfg.model.teacher.checkpoint = 'none'
    model = tiny.build(cfg.model, 'mmseg')
    model.use_teacher(teacher.eval())
    assert step(model, cfg) == {'decode.loss_ce', 'aux.loss_ce', *losses}


def test_warm_start():
    warm, twin = load('diffkd_warm_start', FOLDER / 'ablations'), load('diffkd')
    assert warm.model == twin.model and 'custom_hooks' not in twin
    assert [HOOKS.build(hook).num_iters for hook in warm.custom_hooks] == [500]


def test_the_teacher_sees_larger_crops_of_the_same_images():
    student, teacher = (load(name).train_dataloader.dataset for name in ('student', 'teacher'))
    pipelines = [list(student.pop('pipeline')), list(teacher.pop('pipeline'))]
    assert student == teacher
    crops = [pipeline.pop(3) for pipeline in pipelines]
    assert pipelines[0] == pipelines[1]
    assert [crop.type for crop in crops] == ['RandomCrop'] * 2
    assert [crop.crop_size for crop in crops] == [load(x).crop_size for x in ('student', 'teacher')]
