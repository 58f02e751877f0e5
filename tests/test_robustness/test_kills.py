"""A kill at any moment of a checkpoint's writing costs the steps since the one before at most."""

import os
import resource
import shutil
import signal
import sys

import pytest
import torch
import toy
from mmengine.hooks import CheckpointHook as StockHook
from mmengine.registry import HOOKS

from diffkd_mm.checkpoints.storage import is_whole, latest_checkpoint
from diffkd_mm.hooks import CheckpointHook

HOOKS.register_module(name='StockCheckpointHook', module=StockHook)


def kill_at(stage: int, hook: type) -> None:
    """Ends this process before the n-th thing that it does to files while epoch 3 is saved.

    Opening, renaming, removing and synchronising. Stage 0 ends it half-way through the writing.
    """
    left = [stage]
    fsync, save = os.fsync, hook._save_checkpoint_with_step

    def step(event: str, args: tuple = ()) -> None:
        is_pipe = event == 'open' and isinstance(args[0], int)
        if event in ('open', 'os.rename', 'os.remove', 'fsync') and hook.saving and not is_pipe:
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    def stepwise_fsync(descriptor: int) -> None:
        step('fsync')
        fsync(descriptor)

    def watched(instance, runner, step, meta) -> None:
        hook.saving = step == 3
        if hook.saving and stage == 0:
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
        save(instance, runner, step, meta)
        hook.saving = False

    hook.saving = False
    sys.addaudithook(step)
    os.fsync, hook._save_checkpoint_with_step = stepwise_fsync, watched


def train_until_killed(stage: int, cfg, hook: type) -> None:
    kill_at(stage, hook)
    toy.train(cfg)


def config(work_dir, epochs: int, hook: str = 'CheckpointHook'):
    cfg = toy.config(work_dir, epochs)
    cfg.default_hooks.checkpoint = dict(type=hook, interval=1, max_keep_ckpts=1)
    cfg.resume = epochs > 2
    return cfg


def kill_at_all_stages(folder, hook: type, name: str):
    """Kills a training of three epochs, resumed from two, at one stage after the other."""
    toy.train(config(folder / 'two', 2, name))
    for stage in range(100):
        work_dir = folder / f'stage_{stage}'
        shutil.copytree(folder / 'two', work_dir)
        cfg = config(work_dir, 3, name)
        # Where a copied work dir's file names the checkpoint of the original.
        (work_dir / 'last_checkpoint').write_text(str(work_dir / 'epoch_2.pth'))
        status = toy.forked(train_until_killed, stage, cfg, hook)
        if status == 0:
            return
        assert status in (-signal.SIGKILL, -signal.SIGXFSZ)
        yield work_dir
    raise AssertionError('it never ended')


def test_no_kill_loses_a_checkpoint(tmp_path):
    whole = toy.train(config(tmp_path / 'whole', 3))
    stages = 0
    for work_dir in kill_at_all_stages(tmp_path, CheckpointHook, 'CheckpointHook'):
        stages += 1
        found = latest_checkpoint(work_dir)
        assert found.endswith(('epoch_2.pth', 'epoch_3.pth'))
        cfg = config(work_dir, 3)
        toy.train(cfg)
        resumed = torch.load(work_dir / 'epoch_3.pth', weights_only=False)
        assert toy.differences(toy.training_state(whole), toy.training_state(resumed)) == []
        # No half file is left; an outdated one may be, if the kill came before its removal.
        left = {x.name for x in work_dir.glob('*.pth*')}
        assert left - {'epoch_2.pth'} == {'epoch_3.pth'}
    # Half-way; opened, synchronised, renamed, folder opened and synchronised, noted, removed.
    assert stages == 8


def test_a_kill_takes_everything_from_the_stock_hook(tmp_path):
    """The harness above does kill where it hurts."""
    left = [
        [x.name for x in work_dir.glob('*.pth') if is_whole(x)]
        for work_dir in kill_at_all_stages(tmp_path, StockHook, 'StockCheckpointHook')
    ]
    assert [] in left


@pytest.mark.parametrize('by_iterations', [False, True])
def test_a_failing_validation_costs_nothing(tmp_path, by_iterations):
    cfg = toy.config(tmp_path, by_iterations=by_iterations)
    cfg.val_evaluator.fails = True
    with pytest.raises(RuntimeError, match='no metric'):
        toy.train(cfg)
    name = 'iter_4.pth' if by_iterations else 'epoch_1.pth'
    assert latest_checkpoint(tmp_path).endswith(name)
