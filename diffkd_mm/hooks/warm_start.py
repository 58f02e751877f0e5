"""Training the denoisers on teacher features alone before the student's first step."""

from copy import copy

import torch
import torch.distributed as dist
from mmengine.dataset import DefaultSampler
from mmengine.dist import get_world_size
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from ..distillers import Distiller
from ..errors import DistillationError
from ..options import PositiveFloat, PositiveInt, check_options
from ..registry import HOOKS
from .wrapping import unwrapped


@HOOKS.register_module()
class WarmStartHook(Hook):
    """Trains autoencoders and denoisers on teacher features before training begins.

    In a joint training of a few thousand steps the denoiser is still untrained while its output is
    compared with the teacher; the paper's schedules are far longer. Nothing of the student is
    touched. Always in float32. Skipped when training is resumed. Not in the paper.

    Args:
        num_iters (int): Steps, over the batches of the training set.
        lr (float): Learning rate of Adam. Defaults to 1e-3.
        interval (int): Steps between two log lines. Defaults to 100.

    Raises:
        DistillationError: If an option is not a positive number.
    """

    def __init__(
        self, num_iters: PositiveInt, lr: PositiveFloat = 1e-3, interval: PositiveInt = 100
    ) -> None:
        given = dict(num_iters=num_iters, lr=lr, interval=interval)
        check_options(given, WarmStartHook, 'custom_hooks')
        self.num_iters = num_iters
        self.lr = lr
        self.interval = interval

    def before_train(self, runner: Runner) -> None:
        """Runs the warm start.

        Args:
            runner (Runner): The runner, whose model is a :class:`Distiller`.

        Raises:
            DistillationError: If the model is no distiller, or has nothing to train.
        """
        if runner.iter > 0:
            return
        model = unwrapped(runner)
        if not isinstance(model, Distiller):
            raise DistillationError(
                f'WarmStartHook: the model is a {type(model).__name__}, which distils nothing; '
                'remove the hook.'
            )
        runner.logger.info(f'Warm start: {self.num_iters} steps on teacher features')
        optimizer: torch.optim.Optimizer | None = None
        distillation = model.distillation.train()
        batches = _own_loader(runner.train_dataloader)
        step = epoch = 0
        while step < self.num_iters:
            batches.sampler.set_epoch(epoch)
            epoch += 1
            for data in batches:
                data = model.data_preprocessor(data, True)
                losses = model.teacher_losses(**data)
                if not losses:
                    raise DistillationError(
                        'WarmStartHook: no connector of this config has anything to train on '
                        'teacher features alone; remove the hook.'
                    )
                loss, _ = model.parse_losses(losses)
                distillation.zero_grad()
                loss.backward()
                if optimizer is None:
                    reached = [p for p in distillation.parameters() if p.grad is not None]
                    optimizer = torch.optim.Adam(reached, lr=self.lr)
                _average_gradients(optimizer)
                optimizer.step()
                step += 1
                if step % self.interval == 0 or step == self.num_iters:
                    values = ', '.join(f'{k} {v.item():.4f}' for k, v in losses.items())
                    runner.logger.info(f'Warm start [{step}/{self.num_iters}] {values}')
                if step == self.num_iters:
                    break
        distillation.zero_grad()


def _own_loader(loader: DataLoader) -> DataLoader:
    """A loader of the same data, so that the training's is as untouched as the student.

    To leave a loop over that one early would end the endless samplers of trainings by iterations,
    and a dataset may count the batches it gave, as :class:`InMemoryDataset` does.
    """
    batch_size = loader.batch_sampler.batch_size
    dataset = copy(loader.dataset)
    return DataLoader(
        dataset,
        batch_size=batch_size,
        sampler=DefaultSampler(dataset, shuffle=True),
        drop_last=len(dataset) >= batch_size * get_world_size(),
        num_workers=loader.num_workers,
        collate_fn=loader.collate_fn,
        pin_memory=loader.pin_memory,
        worker_init_fn=loader.worker_init_fn,
    )


def _average_gradients(optimizer: torch.optim.Optimizer) -> None:
    """What DDP does in its backward pass, which this loss does not go through."""
    if get_world_size() == 1:
        return
    for group in optimizer.param_groups:
        for parameter in group['params']:
            dist.all_reduce(parameter.grad)
            parameter.grad /= get_world_size()
