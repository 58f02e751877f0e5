"""Checkpoints of MMEngine's trainings are read without running code, and resumed from as well."""

import os
import re

import pytest
import torch
import toy
from mmengine.model import BaseModule
from mmengine.registry import PARAM_SCHEDULERS
from mmengine.runner import CheckpointLoader
from safetensors.torch import save_file

from diffkd_mm.checkpoints import reading
from diffkd_mm.checkpoints.reading import read_all_safely, read_checkpoint_file
from diffkd_mm.errors import DistillationError

# Every learning rate schedule of MMEngine that a few options suffice for.
SCHEDULES = [
    dict(type='ConstantLR', factor=0.5, end=2),
    dict(type='CosineAnnealingLR', T_max=4),
    dict(type='CosineRestartLR', periods=[2, 2], restart_weights=[1, 0.5], eta_min=0),
    dict(type='ExponentialLR', gamma=0.9),
    dict(type='LinearLR', start_factor=0.1, end=3, by_epoch=False),
    dict(type='MultiStepLR', milestones=[1, 2]),
    dict(type='OneCycleLR', eta_max=0.1, total_steps=16, by_epoch=False),
    dict(type='PolyLR', power=0.9),
    dict(type='ReduceOnPlateauLR', monitor='toy/mean'),
    dict(type='StepLR', step_size=2),
]


@pytest.mark.parametrize('schedule', SCHEDULES, ids=lambda x: x['type'])
def test_a_training_is_resumed(tmp_path, schedule):
    def config(name: str):
        cfg = toy.config(tmp_path / name)
        cfg.param_scheduler = [schedule]
        cfg.optim_wrapper.optimizer = dict(type='AdamW', lr=0.01)
        cfg.default_hooks.checkpoint.update(save_best='toy/mean', rule='less')
        return cfg

    whole = toy.train(config('whole'))
    read_all_safely()
    cfg = config('resumed')
    cfg.resume, cfg.load_from = True, str(tmp_path / 'whole/epoch_2.pth')
    assert toy.differences(toy.training_state(whole), toy.training_state(toy.train(cfg))) == []
    (best,) = (tmp_path / 'whole').glob('best_*.pth')
    assert 'state_dict' in read_checkpoint_file(str(best))


def test_the_list_of_schedules_is_complete():
    names = {name for name in PARAM_SCHEDULERS.module_dict if name.endswith('LR')}
    assert names - {'QuadraticWarmupLR'} == {schedule['type'] for schedule in SCHEDULES}


class Bomb:
    def __init__(self, path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize('safely', [False, True])
def test_mmengine_alone_would_run_code(tmp_path, safely):
    """The bomb of the test is one."""
    torch.save(dict(state_dict={}, bomb=Bomb(tmp_path / 'ran')), tmp_path / 'bomb.pth')
    if safely:
        read_all_safely()
        with pytest.raises(DistillationError, match='posix.mkdir'):
            CheckpointLoader.load_checkpoint(str(tmp_path / 'bomb.pth'))
    else:
        CheckpointLoader.load_checkpoint(str(tmp_path / 'bomb.pth'))
    assert (tmp_path / 'ran').exists() != safely


def test_weights_that_a_config_initialises_with(tmp_path):
    torch.save(dict(state_dict={}, bomb=Bomb(tmp_path / 'ran')), tmp_path / 'bomb.pth')
    pretrained = dict(type='Pretrained', checkpoint=str(tmp_path / 'bomb.pth'))
    read_all_safely()
    with pytest.raises(DistillationError, match='posix.mkdir'):
        BaseModule(init_cfg=pretrained).init_weights()


@pytest.mark.parametrize('scheme', ['https://example.com/r34.pth', 'torchvision://resnet34'])
def test_urls_are_downloaded_by_us(tmp_path, monkeypatch, scheme):
    torch.save(dict(x=torch.ones(1)), tmp_path / 'r34.pth')
    urls = []

    def download(url: str):
        urls.append(url)
        return tmp_path / 'r34.pth'

    monkeypatch.setattr(reading, 'download', download)
    read_all_safely()
    assert CheckpointLoader.load_checkpoint(scheme)['x'] == 1
    assert len(urls) == 1 and re.fullmatch(r'https://.*34.*\.pth', urls[0])


@pytest.mark.parametrize('name', ['model.safetensors', 'model.pth'])
def test_safetensors_by_content(tmp_path, name):
    save_file({'x': torch.arange(3)}, tmp_path / name)
    assert read_checkpoint_file(str(tmp_path / name))['x'].sum() == 3


@pytest.mark.parametrize('legacy', [False, True])
@pytest.mark.parametrize('name', ['model.pth', 'model.safetensors', 'model'])
def test_pytorch_by_content(tmp_path, name, legacy):
    torch.save({'x': torch.arange(3)}, tmp_path / name, _use_new_zipfile_serialization=not legacy)
    assert read_checkpoint_file(str(tmp_path / name))['x'].sum() == 3
