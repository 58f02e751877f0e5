"""Trainings with branches: EMA, resume, two processes, folding at the end, and the tools."""

import os
import subprocess
import sys
from pathlib import Path

import patience
import pytest
import tiny
import torch
import toy
from mmengine.config import Config
from mmengine.runner import Runner

from diffkd_mm.errors import DistillationError

TOOLS = Path(__file__).parents[2] / 'tools'
LAYER = 'neck.fpn_convs.0.conv'
POINT = dict(
    student=LAYER,
    teacher='neck.fpn_convs.0',
    connector=dict(
        type='ConvConnector', student_channels=16, teacher_channels=24, standardize='channel'
    ),
    chain=dict(type='KDiffusionChain'),
    loss=dict(type='MSELoss'),
)


def config(folder, teacher_checkpoint, name, **overrides):
    model = tiny.distiller(teacher_checkpoint, dict(chain=POINT))
    model['branches'] = dict(layers=[LAYER, 'backbone.layer4.1.conv2'], num_branches=3)
    cfg = tiny.training(folder, teacher_checkpoint, model=model, **overrides)
    cfg.work_dir = str(folder / name)
    cfg.custom_hooks = [
        dict(type='EMAHook', momentum=0.3),
        dict(type='diffkd_mm.FoldBranchesHook'),
    ]
    return cfg


def train(cfg):
    Runner.from_cfg(cfg).train()


def predictions(cfg, checkpoint, name):
    cfg = Config(cfg.to_dict())
    cfg.custom_hooks = []
    cfg.work_dir, cfg.load_from = f'{cfg.work_dir}_{name}', str(checkpoint)
    runner = Runner.from_cfg(cfg)
    runner.load_or_resume()
    runner.model.eval()
    with torch.no_grad():
        batches = [runner.model.test_step(batch) for batch in runner.test_dataloader]
    return [sample.pred_instances for batch in batches for sample in batch]


def tool(*command):
    return subprocess.run(
        [sys.executable, *(str(x) for x in command)],
        capture_output=True,
        text=True,
        timeout=patience.SECONDS,
        env={**os.environ, 'OMP_NUM_THREADS': '1'},
    )


@pytest.fixture(scope='module')
def trained(tmp_path_factory, teacher_checkpoint):
    folder = tmp_path_factory.mktemp('branches')
    cfg = config(folder, teacher_checkpoint, 'whole')
    train(cfg)
    return folder, cfg


def plain(cfg):
    cfg = Config(cfg.to_dict())
    cfg.model = cfg.model.student
    return cfg


def test_folded_student_predicts_as_the_branches(trained):
    """Both ways of folding, hook and tool; the checkpoint's weights are the EMA's."""
    folder, cfg = trained
    work = folder / 'whole'
    export = tool(
        TOOLS / 'model_converters/export_student.py',
        work / 'epoch_2.pth',
        folder / 'student.pth',
        '--keep-name',
    )
    assert export.returncode == 0, export.stderr
    assert 'verified: it fits the' in export.stdout
    unfolded = predictions(cfg, work / 'epoch_2.pth', 'unfolded')
    by_tool = torch.load(folder / 'student.pth', weights_only=True)['state_dict']
    by_hook = torch.load(work / 'student.pth', weights_only=True)['state_dict']
    assert by_tool.keys() == by_hook.keys()
    assert all(torch.equal(by_tool[name], by_hook[name]) for name in by_tool)
    folded = predictions(plain(cfg), folder / 'student.pth', 'folded')
    assert sum(len(x) for x in unfolded) > 0
    for a, b in zip(unfolded, folded):
        torch.testing.assert_close(a.scores, b.scores, rtol=0, atol=1e-5)


def test_hook_without_branches_is_refused_before_training(tmp_path, teacher_checkpoint):
    cfg = config(tmp_path, teacher_checkpoint, 'plain')
    cfg.model = cfg.model.student
    with pytest.raises(DistillationError, match='no layer of the student is in branches'):
        train(cfg)
    assert not list(tmp_path.rglob('*.pth'))


def test_unfolded_checkpoint_is_refused_by_test_py(trained):
    folder, cfg = trained
    plain(cfg).dump(folder / 'plain.py')
    result = tool(
        TOOLS / 'test.py', folder / 'plain.py', folder / 'whole/epoch_2.pth',
        '--work-dir', folder / 'test',
    )  # fmt: skip
    assert result.returncode != 0
    assert 'still in branches' in result.stderr and 'export_student.py' in result.stderr
    assert 'Traceback' not in result.stderr


def test_resumed_training_equals_an_uninterrupted_one(trained, teacher_checkpoint):
    folder, _ = trained
    cfg = config(folder, teacher_checkpoint, 'resumed')
    cfg.load_from, cfg.resume = str(folder / 'whole/epoch_1.pth'), True
    train(cfg)
    whole, resumed = (
        torch.load(folder / name / 'epoch_2.pth', weights_only=False)['state_dict']
        for name in ('whole', 'resumed')
    )
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_two_processes(tmp_path, teacher_checkpoint):
    """Every branch gets a gradient in every process, or DDP would stop in the second step."""
    cfg = toy.for_ranks(config(tmp_path, teacher_checkpoint, 'two'))
    toy.in_two_processes(tmp_path, train, cfg)
    weights = torch.load(tmp_path / 'two/student.pth', weights_only=True)['state_dict']
    tiny.build(tiny.retinanet()).load_state_dict(weights, strict=True)
