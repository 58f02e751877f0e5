"""Hooks for trainings that tests start in processes of their own."""

import hashlib
import json
import os
import signal
from pathlib import Path

import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS


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
    """Kills the process in an iteration, unless the training is a resumed one."""

    def __init__(self, iteration: int) -> None:
        self.iteration = iteration

    def after_train_iter(self, runner, *args, **kwargs) -> None:
        if runner.iter == self.iteration and not runner._resume:
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
        values = b''.join(p.detach().numpy().tobytes() for _, p in parameters)
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
