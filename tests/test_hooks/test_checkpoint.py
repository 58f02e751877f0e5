"""MMEngine's checkpoint hook, replaced."""

import runpy
from pathlib import Path

import pytest
import torch
import toy
from mmengine.config import Config
from mmengine.hooks import CheckpointHook as StockHook
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from diffkd_mm.distillers.balance import LossBalance
from diffkd_mm.hooks import CheckpointHook


def tool(name: str) -> dict:
    """The functions of a script of ``tools/``."""
    return runpy.run_path(str(Path(__file__).parents[2] / 'tools' / name))


@HOOKS.register_module()
class SpoilHook(Hook):
    """Puts a value into a tensor of the model in one epoch."""

    def __init__(self, name: str, value: float, epoch: int = 1) -> None:
        self.name, self.value, self.epoch = name, value, epoch

    def after_train_epoch(self, runner) -> None:
        if runner.epoch == self.epoch:
            runner.model.state_dict()[self.name].view(-1)[0] = self.value


@pytest.mark.parametrize('name', ['CheckpointHook', 'diffkd_mm.CheckpointHook'])
@pytest.mark.parametrize('scope', ['mmengine', 'mmdet'])
def test_has_the_name_of_mmengines(tmp_path, name, scope):
    cfg = toy.config(tmp_path)
    cfg.default_scope = scope
    cfg.default_hooks.checkpoint.type = name
    hooks = Runner.from_cfg(cfg).hooks
    assert [type(x) for x in hooks if isinstance(x, StockHook)] == [CheckpointHook]


@pytest.mark.parametrize('default_hooks', [{}, dict(checkpoint=None), dict(logger=dict(type='x'))])
def test_tools_leave_other_configs_alone(default_hooks):
    cfg = Config(dict(default_hooks=default_hooks))
    tool('train.py')['use_safe_checkpoints'](cfg)
    assert cfg.default_hooks == default_hooks


def test_tools_replace_it_in_pure_python_configs(tmp_path):
    """Which name the class, so that the registry is not asked."""
    (tmp_path / 'config.py').write_text(
        'from mmengine.hooks import CheckpointHook\n'
        'default_hooks = dict(checkpoint=dict(type=CheckpointHook, max_keep_ckpts=2))\n'
    )
    cfg = Config.fromfile(tmp_path / 'config.py')
    assert cfg.default_hooks.checkpoint.type is StockHook
    tool('train.py')['use_safe_checkpoints'](cfg)
    assert cfg.default_hooks.checkpoint.type == 'diffkd_mm.CheckpointHook'
    assert cfg.default_hooks.checkpoint.max_keep_ckpts == 2


class TestWeightsThatAreNotFinite:
    @pytest.mark.parametrize(
        ('name', 'value'),
        [
            ('layers.0.weight', float('nan')),
            ('layers.0.bias', float('-inf')),
            ('layers.1.running_var', float('nan')),
        ],
    )
    def test_are_not_written(self, tmp_path, name, value):
        cfg = toy.config(tmp_path)
        cfg.custom_hooks = [dict(type='SpoilHook', name=name, value=value)]
        cfg.default_hooks.checkpoint.max_keep_ckpts = 1
        with pytest.raises(FloatingPointError, match=f'{name} and 0 other.*at iteration 8'):
            toy.train(cfg)
        assert [x.name for x in tmp_path.glob('*.pth')] == ['epoch_1.pth']

    def test_nor_is_their_average(self, tmp_path):
        cfg = toy.config(tmp_path)
        spoil = dict(type='SpoilHook', name='layers.0.bias', value=float('nan'))
        cfg.custom_hooks = [spoil, dict(type='EMAHook', momentum=0.5)]
        with pytest.raises(FloatingPointError, match='layers.0.bias'):
            toy.train(cfg)

    def test_nor_are_moments_of_the_optimizer(self, tmp_path):
        runner = Runner.from_cfg(toy.config(tmp_path, epochs=1))
        runner.train()
        (state, *_) = runner.optim_wrapper.optimizer.state.values()
        state['momentum_buffer'][0] = float('inf')
        with pytest.raises(FloatingPointError, match='optimizer.0.momentum_buffer'):
            runner.save_checkpoint(str(tmp_path), 'again.pth')

    def test_infinities_in_buffers_may_be_meant(self, tmp_path):
        cfg = toy.config(tmp_path, epochs=2)
        cfg.custom_hooks = [
            dict(type='SpoilHook', name='layers.1.running_mean', value=float('inf'))
        ]
        toy.train(cfg)
        assert (tmp_path / 'epoch_2.pth').exists()


class TestOptionsOfMMEngine:
    def test_as_many_are_kept_as_asked_for(self, tmp_path):
        cfg = toy.config(tmp_path)
        cfg.default_hooks.checkpoint.update(max_keep_ckpts=2)
        toy.train(cfg)
        assert {x.name for x in tmp_path.glob('*.pth')} == {'epoch_3.pth', 'epoch_4.pth'}

    def test_fewer_when_resumed(self, tmp_path):
        cfg = toy.config(tmp_path)
        cfg.default_hooks.checkpoint.update(max_keep_ckpts=3)
        toy.train(cfg)
        cfg.default_hooks.checkpoint.update(max_keep_ckpts=1)
        cfg.resume = True
        toy.train(cfg)
        assert [x.name for x in tmp_path.glob('*.pth')] == ['epoch_4.pth']

    def test_the_best_is_kept_and_published(self, tmp_path):
        cfg = toy.config(tmp_path)
        cfg.default_hooks.checkpoint.update(
            save_best='toy/mean', rule='greater', published_keys=['state_dict'], max_keep_ckpts=1
        )
        toy.train(cfg)
        best = list(tmp_path.glob('best_toy_mean_epoch_?.pth'))
        assert len(best) == 1
        published = list(tmp_path.glob('*-????????.pth'))
        assert len(published) == 2
        for path in published:
            assert list(torch.load(path)) == ['state_dict']

    def test_the_best_is_not_removed_when_it_is_written_again(self, tmp_path):
        cfg = toy.config(tmp_path, epochs=1)
        cfg.default_hooks.checkpoint.update(save_best='toy/mean', rule='greater')
        runner = Runner.from_cfg(cfg)
        runner.train()
        (hook,) = [x for x in runner.hooks if isinstance(x, CheckpointHook)]
        hook.after_val_epoch(runner, {'toy/mean': 100.0})
        assert (tmp_path / 'best_toy_mean_epoch_1.pth').exists()

    def test_storage_of_another_kind_is_left_alone(self, tmp_path):
        cfg = toy.config(tmp_path, epochs=1)
        cfg.default_hooks.checkpoint.backend_args = dict(backend='local')
        toy.train(cfg)
        assert (tmp_path / 'epoch_1.pth').exists()

    def test_without_the_optimizer(self, tmp_path):
        cfg = toy.config(tmp_path, epochs=1)
        cfg.default_hooks.checkpoint.save_optimizer = False
        cfg.optim_wrapper.accumulative_counts = 3
        assert not {'optimizer', 'gradients'} & toy.train(cfg).keys()


class TestWhatIsNotExactIsSaid:
    def resume(self, tmp_path, monkeypatch, change, **kind) -> list[str]:
        """What a training resumed from a changed checkpoint warns of."""
        toy.train(toy.config(tmp_path, epochs=2, **kind))
        (path,) = [*tmp_path.glob('epoch_1.pth'), *tmp_path.glob('iter_4.pth')]
        checkpoint = torch.load(path, weights_only=False)
        change(checkpoint)
        torch.save(checkpoint, tmp_path / 'changed.pth')
        cfg = toy.config(tmp_path / 'resumed', epochs=2, **kind)
        cfg.resume, cfg.load_from = True, str(tmp_path / 'changed.pth')
        runner = Runner.from_cfg(cfg)
        lines = []
        monkeypatch.setattr(runner.logger, 'warning', lambda line, *args: lines.append(line))
        runner.train()
        return [x for x in lines if 'exactly' in x]

    def test_a_checkpoint_of_the_stock_hook(self, tmp_path, monkeypatch):
        (line,) = self.resume(tmp_path, monkeypatch, lambda x: x.pop('randomness'))
        assert line.startswith('the checkpoint holds no states of generators')

    def test_another_number_of_processes(self, tmp_path, monkeypatch):
        (line,) = self.resume(
            tmp_path, monkeypatch, lambda x: x['randomness']['generators'].append(None)
        )
        assert line.startswith('the checkpoint was written by 2 processes and is resumed by 1:')

    def test_the_middle_of_an_epoch(self, tmp_path, monkeypatch):
        (line,) = self.resume(tmp_path, monkeypatch, lambda x: x['meta'].update(iter=5))
        assert line.startswith('the checkpoint was written in the middle of epoch 2')

    def test_silence_otherwise(self, tmp_path, monkeypatch):
        assert self.resume(tmp_path, monkeypatch, lambda x: None) == []


def test_validation_does_not_change_the_training(tmp_path):
    often = toy.train(toy.config(tmp_path / 'often'))
    cfg = toy.config(tmp_path / 'seldom')
    cfg.train_cfg.val_interval = 4
    assert toy.differences(toy.training_state(often), toy.training_state(toy.train(cfg))) == []


def test_its_states_are_read_with_weights_only(tmp_path):
    checkpoint = toy.train(toy.config(tmp_path, epochs=1))
    torch.save(checkpoint['randomness'], tmp_path / 'states.pth')
    states = torch.load(tmp_path / 'states.pth', weights_only=True)
    assert toy.differences(states, checkpoint['randomness']) == []


@HOOKS.register_module()
class NoteInputsHook(Hook):
    """Keeps what the model is trained on."""

    def before_train(self, runner) -> None:
        self.inputs = []

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        self.inputs.append(data_batch['inputs'])


def test_no_pass_over_the_data_repeats_what_the_workers_drew(tmp_path, monkeypatch):
    """Where a training by iterations comes to the end of its data and starts new workers."""
    monkeypatch.setattr('mmengine.runner.loops.time.sleep', lambda seconds: None)
    cfg = toy.config(tmp_path, epochs=2, by_iterations=True, workers=1)
    cfg.train_dataloader.update(persistent_workers=False)
    cfg.train_dataloader.sampler = dict(type='DefaultSampler', shuffle=False)
    cfg.custom_hooks = [dict(type='NoteInputsHook')]
    runner = Runner.from_cfg(cfg)
    runner.train()
    (note,) = (x for x in runner.hooks if isinstance(x, NoteInputsHook))
    first, second = torch.cat(note.inputs).chunk(2)
    assert not torch.isin(first, second).any()


@pytest.mark.parametrize('resume', [False, True])
def test_only_a_resumed_training_keeps_what_a_balance_measured(tmp_path, resume):
    """Another training has other losses, and `load_from` brings the buffers along."""

    def train(name: str, **options) -> Runner:
        cfg = toy.config(tmp_path / name, epochs=1)
        cfg.update(options, custom_hooks=[])
        runner = Runner.from_cfg(cfg)
        runner.model.balance = LossBalance(ratio=1.0, iters=2)
        runner.train()
        return runner

    runner = train('first')
    runner.model.balance.measured.fill_(2)
    runner.model.balance.sums.fill_(3)
    runner.save_checkpoint(str(tmp_path), 'measured.pth')
    balance = train('next', resume=resume, load_from=str(tmp_path / 'measured.pth')).model.balance
    assert balance.measured == (2 if resume else 0)
    assert balance.sums[0] == (3 if resume else 0)
