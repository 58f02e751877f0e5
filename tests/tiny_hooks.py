"""Hooks for trainings that tests start in processes of their own."""

import hashlib
import json
import os
import signal
from pathlib import Path
from unittest.mock import patch

import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from patience import wait_until


@HOOKS.register_module()
class NaNHook(Hook):
    """Spoils the distillation loss from an iteration on."""

    def __init__(self, iteration: int) -> None:
        self.iteration = iteration

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        if runner.iter == self.iteration:
            runner.model.distillation.fpn.loss.loss_weight = float('nan')


@HOOKS.register_module()
class KillHook(Hook):
    """Kills the process of a rank in an iteration, unless the training is a resumed one."""

    def __init__(self, iteration: int, rank: int = 0) -> None:
        self.iteration = iteration
        self.rank = rank

    def after_train_iter(self, runner, *args, **kwargs) -> None:
        if (runner.iter, runner.rank) == (self.iteration, self.rank) and not runner._resume:
            os.kill(os.getpid(), signal.SIGKILL)


@HOOKS.register_module()
class CompareReplicasHook(Hook):
    """Writes each replica's seed and a hash of its weights before and after training."""

    priority = 'LOWEST'

    def __init__(self, out: str) -> None:
        self.out = Path(out)
        self.report = {}

    @staticmethod
    def digest(runner) -> str:
        parameters = runner.model.module.named_parameters()
        values = b''.join(p.detach().cpu().numpy().tobytes() for _, p in parameters)
        return hashlib.sha256(values).hexdigest()

    def before_train(self, runner) -> None:
        self.report.update(
            world_size=runner.world_size,
            seed=torch.initial_seed(),
            start=self.digest(runner),
            reduced=[name for name, _ in runner.model.named_parameters()],
        )

    def after_train(self, runner) -> None:
        self.report['end'] = self.digest(runner)
        (self.out / f'rank_{runner.rank}.json').write_text(json.dumps(self.report))


@HOOKS.register_module()
class FixedNoiseHook(Hook):
    """DiffKD's noise is the same for every sample and step, and so is the timestep."""

    def before_train(self, runner) -> None:
        from diffkd_mm.connectors import diffkd_level

        def noise(x: torch.Tensor) -> torch.Tensor:
            generator = torch.Generator().manual_seed(x.size(1) * x.size(2))
            return torch.randn(x[:1].shape, generator=generator).expand_as(x)

        def middle(high: int, size: tuple, **options) -> torch.Tensor:
            return torch.full(size, high // 2, **options)

        patch.object(diffkd_level, 'gaussian_noise', noise).start()
        patch.object(torch, 'randint', middle).start()


@HOOKS.register_module()
class WaitHook(Hook):
    """Says that an iteration is reached and waits until a file is there, the first time."""

    def __init__(self, iteration: int, file: str) -> None:
        self.iteration = iteration
        self.file = Path(file)

    def before_train_iter(self, runner, *args, **kwargs) -> None:
        if runner.iter == self.iteration and not runner._resume:
            print(f'waiting in iteration {self.iteration}', flush=True)
            wait_until(self.file.exists)
