"""Mixed precision without a GPU, through the option that users know."""

import sys
from pathlib import Path

import pytest
import tiny
import torch
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner

sys.path.insert(0, str(Path(__file__).parents[2] / 'tools'))

import train  # noqa: E402


class Spy(Hook):
    """Notes the data types of the student's and the teacher's features."""

    def before_train(self, runner):
        self.dtypes = []
        for model in (runner.model.student, runner.model.teacher.model):
            model.neck.register_forward_hook(
                lambda module, args, output: self.dtypes.append(output[0].dtype)
            )


def test_training_on_the_cpu(tmp_path, teacher_checkpoint, monkeypatch):
    monkeypatch.setattr(train, 'get_device', lambda: 'cpu')
    cfg = tiny.training(tmp_path, teacher_checkpoint, max_epochs=1)
    cfg.work_dir = str(tmp_path / 'work')
    cfg.optim_wrapper.update(type='AmpOptimWrapper', loss_scale='dynamic')  # of a config with AMP
    train.use_amp(cfg)
    spy = Spy()
    runner = Runner.from_cfg(cfg)
    runner.register_hook(spy)
    runner.train()
    # The teacher is looked at in float32 when its norms are folded, before its first step; then
    # two steps of student and teacher, and the student's evaluation.
    start = spy.dtypes.index(torch.bfloat16)
    assert start <= 3
    assert spy.dtypes[start : start + 4] == [torch.bfloat16] * 4
    assert set(spy.dtypes[start + 4 :]) == set(spy.dtypes[:start]) == {torch.float32}
    assert {x.dtype for x in runner.model.parameters()} == {torch.float32}


@pytest.mark.parametrize('wrapper', ['OptimWrapper', OptimWrapper])
def test_on_a_gpu_it_is_mmengines(monkeypatch, wrapper):
    """Named by its class in MMEngine's pure Python configs."""
    monkeypatch.setattr(train, 'get_device', lambda: 'cuda')
    cfg = tiny.Config(dict(optim_wrapper=dict(type=wrapper, accumulative_counts=2)))
    train.use_amp(cfg)
    assert cfg.optim_wrapper == dict(
        type='AmpOptimWrapper', accumulative_counts=2, loss_scale='dynamic'
    )
