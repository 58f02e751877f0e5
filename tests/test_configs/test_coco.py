"""The full-size configs, on a small image."""

from pathlib import Path

import pytest
import tiny
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper

from diffkd_mm.distillers.teacher import load_config, zoo_checkpoint

CONFIGS = Path(__file__).parents[2] / 'configs'
NAMES = ['retinanet_r50_x101_diffkd', 'retinanet_r50_x101_diffkd_attn']


@pytest.fixture(scope='module')
def step():
    """The config, its model after one step, and what that step logged."""
    cfg = Config.fromfile(CONFIGS / f'{NAMES[0]}.py')
    cfg.model.student.backbone.init_cfg = None  # the ImageNet weights are a download
    model = tiny.build(cfg.model)
    model.student.init_weights()
    # Random weights in place of the zoo's, without a file of 380 MB.
    teacher = tiny.build(dict(load_config(cfg.model.teacher.config).model, _scope_='mmdet'))
    model.use_teacher(teacher)
    optimizer = build_optim_wrapper(model.train(), cfg.optim_wrapper)
    before = model.backbone.layer4[0].conv1.weight.detach().clone()
    log = model.train_step(tiny.batch(2, 128), optimizer)
    return cfg, model, before, log


def test_losses_of_the_recipe(step):
    _, _, _, log = step
    assert set(log) >= {
        'loss_cls',
        'loss_bbox',
        'fpn.loss_kd',
        'fpn.loss_diff',
        'reg.loss_kd',
    }
    assert all(torch.isfinite(value) for value in log.values())


def test_step_trains_the_student(step):
    _, model, before, _ = step
    assert not torch.equal(model.backbone.layer4[0].conv1.weight, before)


def test_sizes(step):
    """Five levels of 256 channels; per level the paper's 0.21 M denoiser and its time table."""
    _, model, _, _ = step
    levels = model.distillation.fpn.connector.levels
    assert len(levels) == 5
    denoiser = sum(p.numel() for p in levels[0].denoiser.parameters())
    assert denoiser == 207_872 + 1280 * 256
    assert sum(p.numel() for p in model.student.parameters()) / 1e6 == pytest.approx(
        37.97, abs=0.01
    )


def test_recipe(step):
    cfg, model, _, _ = step
    assert model.distillation.fpn.loss.loss_weight == 5.0
    assert cfg.optim_wrapper.clip_grad.max_norm == 35
    assert cfg.train_cfg.max_epochs == 24 and cfg.optim_wrapper.optimizer.lr == 0.01
    assert cfg.param_scheduler[0].end == 1000
    url = zoo_checkpoint(cfg.model.teacher.config)
    assert 'retinanet_x101_64x4d_fpn_1x_coco' in url


def test_twin_differs_in_the_attention_alone():
    plain, twin = (Config.fromfile(CONFIGS / f'{name}.py') for name in NAMES)
    assert twin.model.points.fpn.loss.pop('attention') == 'spatial'
    assert plain.to_dict() == twin.to_dict()
