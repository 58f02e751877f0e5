"""The share of a training that is spent waiting for data, on a clock that only the test moves."""

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import nn

from diffkd_mm.hooks import DataWaitHook, waiting


class Clock:
    now = 0.0


class Data(torch.utils.data.Dataset):
    """Each image takes a second to load."""

    metainfo = {}

    def __len__(self):
        return 4

    def __getitem__(self, index):
        Clock.now += 1
        return torch.ones(1)


class Model(BaseModel):
    """Each step takes ``seconds``, and each step of the validation a thousand."""

    def __init__(self, seconds):
        super().__init__()
        self.seconds = seconds
        self.layer = nn.Linear(1, 1)

    def forward(self, inputs, mode):
        Clock.now += self.seconds if mode == 'loss' else 1000
        return dict(loss=self.layer(torch.stack(list(inputs))).sum()) if mode == 'loss' else None

    def train_step(self, data, optim_wrapper):
        optim_wrapper.update_params(self(data, mode='loss')['loss'])
        return {}

    def val_step(self, data):
        self(data, mode='predict')
        return [0]


class Slow(Hook):
    """What other hooks do is no waiting, checkpoints for instance."""

    priority = 'VERY_LOW'

    def after_train_iter(self, *args, **kwargs):
        Clock.now += 100


@pytest.mark.parametrize('by_epoch', [True, False])
def test_share(tmp_path, monkeypatch, by_epoch):
    seconds = 6
    monkeypatch.setattr(waiting.time, 'perf_counter', lambda: Clock.now)
    lines = []
    monkeypatch.setattr(waiting, 'print_log', lambda line, **kwargs: lines.append(line))
    loader = dict(
        batch_size=2,
        num_workers=0,
        dataset=Data(),
        sampler=dict(type='DefaultSampler' if by_epoch else 'InfiniteSampler', shuffle=False),
        collate_fn=dict(type='pseudo_collate'),
    )
    length = dict(by_epoch=True, max_epochs=2) if by_epoch else dict(by_epoch=False, max_iters=4)
    runner = Runner(
        model=Model(seconds),
        work_dir=str(tmp_path),
        train_dataloader=loader,
        train_cfg=dict(**length, val_interval=1 if by_epoch else 2),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
        val_dataloader=loader | dict(sampler=dict(type='DefaultSampler', shuffle=False)),
        val_cfg=dict(),
        val_evaluator=[],
        default_hooks=dict(checkpoint=None, logger=None),
        experiment_name=f'{tmp_path.name}',
        default_scope='mmengine',
    )
    hook = DataWaitHook()
    for other in (hook, Slow()):
        runner.register_hook(other)
    runner.train()
    # Four iterations, each of 2 s of loading, so many of a step and 100 of another hook.
    assert hook.share == pytest.approx(2 / (2 + seconds + 100), rel=1e-6)
    (line,) = lines
    assert line.startswith(f'{100 * hook.share:.0f} % of the iterations')


def test_advice():
    loader = torch.utils.data.DataLoader([1, 2])
    assert 'more than num_workers=0' in waiting.advice(loader)
    assert 'persistent_workers' not in waiting.advice(loader)
    loader = torch.utils.data.DataLoader([1, 2], num_workers=2)
    assert 'more than num_workers=2' in waiting.advice(loader)
    assert 'persistent_workers=True' in waiting.advice(loader)
    assert 'prefetch_factor=4' in waiting.advice(loader)


@pytest.mark.parametrize(('waited', 'worked', 'told'), [(1, 99, False), (20, 80, True)])
def test_says_what_to_change_above_a_tenth(monkeypatch, waited, worked, told):
    lines = []
    monkeypatch.setattr(waiting, 'print_log', lambda line, **kwargs: lines.append(line))
    hook = DataWaitHook()
    hook._waited, hook._worked = waited, worked
    runner = type('Runner', (), dict(train_dataloader=torch.utils.data.DataLoader([1])))
    hook.after_train(runner)
    (line,) = lines
    assert line.startswith(f'{waited} % of the iterations was spent waiting for data.')
    assert ('num_workers' in line) is told
    lines.clear()
    DataWaitHook().after_train(runner)
    assert lines == []
