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
from mmengine.logging import MessageHub
from mmengine.registry import HOOKS, METRICS

from diffkd_mm.checkpoints.storage import is_whole, latest_checkpoint
from diffkd_mm.hooks import CheckpointHook

HOOKS.register_module(name='StockCheckpointHook', module=StockHook)


def kill_at(stage: int, hook: type, method: str) -> None:
    """Ends this process before the n-th thing that a method does to files while epoch 3 is saved.

    Opening, renaming, removing and synchronising. Stage 0 ends it half-way through the writing.
    """
    left = [stage]
    fsync, save = os.fsync, getattr(hook, method)

    def step(event: str, args: tuple = ()) -> None:
        is_pipe = event == 'open' and isinstance(args[0], int)
        if event in ('open', 'os.rename', 'os.remove', 'fsync') and hook.saving and not is_pipe:
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    def stepwise_fsync(descriptor: int) -> None:
        step('fsync')
        fsync(descriptor)

    def watched(instance, runner, *args, **kwargs) -> None:
        hook.saving = runner.iter == 12
        if hook.saving and stage == 0:
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
        save(instance, runner, *args, **kwargs)
        hook.saving = False

    hook.saving = False
    sys.addaudithook(step)
    os.fsync = stepwise_fsync
    setattr(hook, method, watched)


def train_until_killed(stage: int, cfg, hook: type, method: str) -> None:
    kill_at(stage, hook, method)
    toy.train(cfg)


@METRICS.register_module()
class EpochMetric(toy.ToyMetric):
    """Each epoch is better than the one before."""

    def compute_metrics(self, results: list) -> dict:
        return dict(mean=MessageHub.get_current_instance().get_info('epoch'))


def config(work_dir, epochs: int, hook: str = 'CheckpointHook', **options):
    cfg = toy.config(work_dir, epochs)
    cfg.default_hooks.checkpoint = dict(type=hook, interval=1, max_keep_ckpts=1, **options)
    cfg.val_evaluator.type = 'EpochMetric'
    cfg.resume = epochs > 2
    return cfg


def kill_at_all_stages(folder, hook: type, name: str, method: str = '_save_checkpoint', **options):
    """Kills a training of three epochs, resumed from two, at one stage after the other."""
    toy.train(config(folder / 'two', 2, name, **options))
    for stage in range(100):
        work_dir = folder / f'stage_{stage}'
        shutil.copytree(folder / 'two', work_dir)
        cfg = config(work_dir, 3, name, **options)
        # Where a copied work dir's file names the checkpoint of the original.
        (work_dir / 'last_checkpoint').write_text(str(work_dir / 'epoch_2.pth'))
        status = toy.forked(train_until_killed, stage, cfg, hook, method)
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


def best_checkpoints(work_dir) -> list[str]:
    return sorted(x.name for x in work_dir.glob('best_*.pth') if is_whole(x))


def test_no_kill_loses_the_best_checkpoint(tmp_path):
    options = dict(save_best='toy/mean', rule='greater')
    stages = kill_at_all_stages(
        tmp_path, CheckpointHook, 'CheckpointHook', '_save_best_checkpoint', **options
    )
    seen = []
    for work_dir in stages:
        assert latest_checkpoint(work_dir).endswith('epoch_3.pth')
        left = {f'best_toy_mean_epoch_{epoch}.pth' for epoch in (2, 3)}
        assert best_checkpoints(work_dir) and left.issuperset(best_checkpoints(work_dir))
        if not seen:
            toy.train(config(work_dir, 4, **options))
            assert 'best_toy_mean_epoch_4.pth' in best_checkpoints(work_dir)
            # Of which this work dir is a copy.
            assert best_checkpoints(tmp_path / 'two') == ['best_toy_mean_epoch_2.pth']
        seen.append(work_dir)
    (last,) = set(tmp_path.iterdir()) - {tmp_path / 'two', *seen}
    assert best_checkpoints(last) == ['best_toy_mean_epoch_3.pth']


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
