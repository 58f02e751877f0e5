"""A training of milliseconds that draws random numbers everywhere, and what runs it."""

import itertools
import os
import random
import traceback
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from mmengine.config import Config
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseModel
from mmengine.registry import DATA_SAMPLERS, DATASETS, METRICS, MODELS
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import BatchSampler, Dataset

import diffkd_mm  # noqa: F401  registers the checkpoint hook

_NUMBERS = itertools.count()


@DATASETS.register_module()
class ToyDataset(Dataset):
    """Eight vectors, augmented with all three generators."""

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> dict:
        noise = random.random() + np.random.rand() + torch.rand(3)
        return dict(inputs=torch.eye(8)[index, :3] + noise)


@DATA_SAMPLERS.register_module()
class ToyBatchSampler(BatchSampler):
    """One of a package's own, which MMEngine cannot wind forward."""


@MODELS.register_module()
class ToyModel(BaseModel):
    """Regression with dropout and a batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(), nn.Linear(4, 1)
        )

    def forward(self, inputs, mode='tensor'):
        output = self.layers(inputs)
        if mode == 'loss':
            return dict(loss=output.square().mean() + output.sum() * random.random())
        # Validation draws as well.
        return [float(torch.rand(1)) + random.random() + np.random.rand()]


@METRICS.register_module()
class ToyMetric(BaseMetric):
    """The mean of the predictions."""

    default_prefix = 'toy'

    def __init__(self, fails: bool = False) -> None:
        super().__init__()
        self.fails = fails

    def process(self, data_batch, data_samples) -> None:
        if self.fails:
            raise RuntimeError('no metric today')
        self.results += data_samples

    def compute_metrics(self, results: list) -> dict:
        return dict(mean=sum(results) / len(results))


def config(
    work_dir: Path, epochs: int = 4, by_iterations: bool = False, workers: int = 0
) -> Config:
    """A training of ``epochs`` times four batches, validated and saved after each epoch."""
    loader = dict(
        batch_size=2,
        num_workers=workers,
        persistent_workers=workers > 0,
        dataset=dict(type='ToyDataset'),
        collate_fn=dict(type='default_collate'),
    )
    loop = dict(type='EpochBasedTrainLoop', max_epochs=epochs, val_interval=1)
    if by_iterations:
        loop = dict(type='IterBasedTrainLoop', max_iters=4 * epochs, val_interval=4)
    sampler = 'InfiniteSampler' if by_iterations else 'DefaultSampler'
    return Config(
        dict(
            default_scope='mmengine',
            experiment_name=f'toy_{next(_NUMBERS)}',  # or two of a second share their logs
            work_dir=str(work_dir),
            model=dict(type='ToyModel'),
            train_dataloader=dict(**loader, sampler=dict(type=sampler, shuffle=True)),
            val_dataloader=dict(**loader, sampler=dict(type='DefaultSampler', shuffle=False)),
            val_evaluator=dict(type='ToyMetric'),
            train_cfg=loop,
            val_cfg=dict(type='ValLoop'),
            optim_wrapper=dict(
                type='OptimWrapper', optimizer=dict(type='SGD', lr=0.01, momentum=0.9)
            ),
            param_scheduler=[dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=12)],
            default_hooks=dict(
                checkpoint=dict(
                    type='CheckpointHook',
                    interval=4 if by_iterations else 1,
                    by_epoch=not by_iterations,
                )
            ),
            custom_hooks=[dict(type='EMAHook', momentum=0.1)],
            log_level='WARNING',
            randomness=dict(seed=0),
        )
    )


def train(cfg: Config) -> dict:
    """Trains and reads the last checkpoint."""
    runner = Runner.from_cfg(cfg)
    runner.train()
    path = (Path(runner.work_dir) / 'last_checkpoint').read_text()
    return torch.load(path, weights_only=False)


def forked(function: Callable, *args) -> int:
    """Runs a function in a copy of this process.

    Returns:
        int: The copy's exit status, or the negative number of the signal that ended it.
    """
    return wait(fork(function, *args))


def fork(function: Callable, *args) -> int:
    """Starts a copy of this process that runs a function and ends; gives its id."""
    process = os.fork()
    if process:
        return process
    status = 1
    try:
        function(*args)
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def wait(process: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def in_two_processes(folder: Path, function: Callable, *args) -> None:
    """Runs a function as both ranks of a gloo group."""

    def run(rank: int) -> None:
        os.environ.update(LOCAL_RANK=str(rank), RANK=str(rank), WORLD_SIZE='2')
        store = f'file://{folder / "store"}'
        dist.init_process_group('gloo', init_method=store, rank=rank, world_size=2)
        function(*args)
        dist.destroy_process_group()

    folder.mkdir(parents=True, exist_ok=True)
    (folder / 'store').unlink(missing_ok=True)
    processes = [fork(run, rank) for rank in range(2)]
    assert [wait(process) for process in processes] == [0, 0]


def for_ranks(cfg: Config) -> Config:
    """A config as tools/train.py prepares it for processes on the CPU."""
    cfg.launcher = 'pytorch'
    cfg.model_wrapper_cfg = dict(
        type='MMDistributedDataParallel',
        broadcast_buffers=False,
        find_unused_parameters=False,
        device_ids=None,
    )
    return cfg


def differences(one, other, name: str = '') -> list[str]:
    """Where two nested structures of tensors and numbers differ; bit for bit."""
    if isinstance(one, torch.Tensor):
        return [] if torch.equal(one, other) else [name]
    if isinstance(one, dict):
        if one.keys() != other.keys():
            return [f'{name}: {sorted(map(str, one.keys() ^ other.keys()))}']
        return [x for key in one for x in differences(one[key], other[key], f'{name}.{key}')]
    if isinstance(one, (list, tuple)):
        if len(one) != len(other):
            return [name]
        return [
            x for i, pair in enumerate(zip(one, other)) for x in differences(*pair, f'{name}.{i}')
        ]
    return [] if one == other else [name]


def training_state(checkpoint: dict) -> dict:
    """What must be equal in two trainings: all but the logs and the times."""
    return {k: v for k, v in checkpoint.items() if k not in ('meta', 'message_hub')}
