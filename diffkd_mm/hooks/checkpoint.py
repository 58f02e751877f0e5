"""MMEngine's checkpoint hook, made safe against kills and exact on resume."""

import os
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
from mmengine.dist import (
    all_gather_object,
    broadcast_object_list,
    get_rank,
    get_world_size,
    is_main_process,
)
from mmengine.fileio import LocalBackend, get_file_backend
from mmengine.hooks import CheckpointHook as _CheckpointHook
from mmengine.model import MMFullyShardedDataParallel, MMSeparateDistributedDataParallel
from mmengine.optim import OptimWrapper
from mmengine.registry import HOOKS as MMENGINE_HOOKS
from mmengine.runner import IterBasedTrainLoop, Runner
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset

from ..checkpoints.storage import (
    ATOMIC,
    AtomicBackend,
    checkpoint_folder,
    latest_checkpoint,
)
from ..distillers import Distiller
from ..distillers.balance import LossBalance
from ..distillers.student_model import is_semi_supervised
from ..errors import DistillationError
from ..registry import HOOKS
from .generators import BatchSeeds, generator_states, restore_generators
from .wrapping import unwrapped

# Of MMEngine's FlexibleRunner: those that keep a model whole.
STRATEGIES = ('SingleDeviceStrategy', 'DDPStrategy')


@HOOKS.register_module()
class CheckpointHook(_CheckpointHook):
    """MMEngine's ``CheckpointHook``, whose options it has, with four differences.

    - No kill and no full disk loses work: a checkpoint is there whole before an older one goes, and
      a training that resumes by itself finds the newest whole one
      (:func:`~diffkd_mm.checkpoints.storage.latest_checkpoint`).
    - A resumed training goes on bit for bit as an uninterrupted one would: a checkpoint also holds
      the states of all generators of each rank, the sampler's seed and gradients that wait for
      more; validation draws from copies of the generators; data workers are seeded batch by batch
      (:class:`~diffkd_mm.hooks.generators.BatchSeeds`).
    - What is not finite is not written.
    - The name: importing this package registers it in MMEngine's own place, so that every config
      has it, under any launcher.

    Checkpoints on other than local storage are written as MMEngine writes them.

    Args:
        **kwargs: Options of MMEngine's hook.
    """

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self._before_val: dict[str, Any] | None = None
        self._state: dict[str, Any] = {}  # what a checkpoint gets beside MMEngine's entries
        self._resumed: dict[str, Any] | None = None

    # Where to resume from

    def before_run(self, runner: Runner) -> None:
        """Chooses the checkpoint if the training is to resume from the latest one.

        Raises:
            DistillationError: If strategy or wrapper would cut a distiller into pieces.
        """
        _refuse_sharding(runner)
        if not runner._resume or runner._load_from is not None:
            return
        folder = checkpoint_folder(runner.work_dir, self.out_dir)
        found = [latest_checkpoint(runner.work_dir, folder) if is_main_process() else None]
        broadcast_object_list(found)
        runner._load_from = found[0]
        runner._resume = found[0] is not None

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Keeps what :meth:`before_train_epoch` restores, and leaves out what would be misread.

        A semi-supervised detector takes a plain detector's file for both of its own, unless a name
        has "student" or "teacher" in it, as those of connectors may.
        """
        if is_semi_supervised(unwrapped(runner)):
            weights = checkpoint.get('state_dict', checkpoint)
            for name in [x for x in weights if x.startswith('distillation.')]:
                del weights[name]
        if runner._resume:
            self._resumed = {key: checkpoint.get(key) for key in ('randomness', 'gradients')}

    # What to restore, and when

    def before_train(self, runner: Runner) -> None:
        """Writes to a backend that loses nothing from here on."""
        is_local = type(get_file_backend(self.out_dir or runner.work_dir)) is LocalBackend
        if is_local and self.backend_args is None and self.file_client_args is None:
            self.backend_args = dict(backend=ATOMIC)
        super().before_train(runner)
        self._remove_outdated()
        # In a copied work dir, the best so far is the copy, and not the original, which would be
        # removed when there is a better one.
        if path := getattr(self, 'best_ckpt_path', None):
            self.best_ckpt_path = self._in_out_dir(path)
        for name, path in getattr(self, 'best_ckpt_path_dict', {}).items():
            self.best_ckpt_path_dict[name] = path and self._in_out_dir(path)
        if not runner._resume:
            _measure_balances_anew(unwrapped(runner))
        # A checkpoint holds that of rank 0.
        runner.message_hub.update_info('seed', runner.seed)

    def _in_out_dir(self, path: str) -> str:
        return self.file_backend.join_path(self.out_dir, os.path.basename(path))

    def before_train_epoch(self, runner: Runner) -> None:
        """Restores generators and gradients and seeds the data workers.

        In a training by iterations all of it is one epoch.
        """
        loader = runner.train_loop.dataloader
        # A new iterator draws a number, from the generator of all noise unless it has its own.
        loader.generator = torch.Generator().manual_seed(runner.seed)
        self._seed_workers(runner, loader)
        if self._resumed is not None:
            self._restore(runner, loader, **self._resumed)
            self._resumed = None

    def _seed_workers(self, runner: Runner, loader: DataLoader) -> None:
        if loader.num_workers == 0 or isinstance(loader.dataset, IterableDataset):
            return
        init_fn = loader.worker_init_fn
        if isinstance(init_fn, BatchSeeds):
            init_fn = init_fn.init_fn
        first, length = runner.iter, len(loader)
        by_iterations = isinstance(runner.train_loop, IterBasedTrainLoop)
        if by_iterations:
            endless = hasattr(_sampler(loader), 'skip')
            length = None if endless else length
            # Other samplers than MMEngine's endless one are run from the start when resumed.
            first = first if endless and loader.batch_size is not None else 0
        seed = [runner.seed, get_rank()]
        loader.worker_init_fn = BatchSeeds(init_fn, seed, first, length, by_iterations)

    def _restore(
        self, runner: Runner, loader: DataLoader, randomness: dict | None, gradients: dict | None
    ) -> None:
        reason = None
        if randomness is None:
            reason = 'the checkpoint holds no states of generators'
        elif len(randomness['generators']) != get_world_size():
            reason = (
                f'the checkpoint was written by {len(randomness["generators"])} processes and is '
                f'resumed by {get_world_size()}'
            )
        elif not isinstance(runner.train_loop, IterBasedTrainLoop) and runner.iter % len(loader):
            reason = (
                f'the checkpoint was written in the middle of epoch {runner.epoch + 1}, which '
                'begins anew'
            )
        if reason:
            runner.logger.warning(
                f'{reason}: this training does not go on exactly as an uninterrupted one would.'
            )
        if randomness is not None:
            if randomness['sampler_seed'] is not None:
                _sampler(loader).seed = randomness['sampler_seed']
            if len(randomness['generators']) == get_world_size():
                restore_generators(randomness['generators'][get_rank()])
        for name, parameter in unwrapped(runner).named_parameters():
            if gradients and name in gradients:
                parameter.grad = gradients[name].to(parameter)

    def before_val(self, runner: Runner) -> None:
        """Lets validation draw from copies of the generators.

        A checkpoint is written before it, so that a failing validation costs nothing.
        """
        self._before_val = generator_states()

    def after_val(self, runner: Runner) -> None:
        """Goes on with the training's generators."""
        restore_generators(self._before_val)
        self._before_val = None

    # What to write

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        states = all_gather_object(self._before_val or generator_states())
        sampler = _sampler(runner.train_loop.dataloader)
        self._state = dict(
            randomness=dict(generators=states, sampler_seed=getattr(sampler, 'seed', None))
        )
        if self.save_optimizer and (gradients := _accumulated_gradients(runner)):
            self._state['gradients'] = gradients
        super()._save_checkpoint_with_step(runner, step, meta)
        self._state = {}
        self._remove_outdated()

    def _save_best_checkpoint(self, runner: Runner, metrics: dict) -> None:
        super()._save_best_checkpoint(runner, metrics)
        self._remove_outdated()

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Checks what is about to be written and adds what makes resuming exact.

        Raises:
            FloatingPointError: If weights, their average or the optimizer's state are not finite.
        """
        bad = list(_not_finite(checkpoint, {n for n, _ in unwrapped(runner).named_parameters()}))
        step = checkpoint.get('meta', {}).get('iter', runner.iter)
        if bad:
            raise FloatingPointError(
                f'{bad[0]} and {len(bad) - 1} other tensors are NaN or infinite, so no checkpoint '
                f'is written at iteration {step}. Those that this training wrote before were '
                'checked in the same way. Lower the learning rate or a loss weight, clip '
                'gradients, or use bfloat16 or float32 in place of float16.'
            )
        checkpoint.update(self._state)

    def _remove_outdated(self) -> None:
        if isinstance(self.file_backend, AtomicBackend) and is_main_process():
            best = getattr(self, 'best_ckpt_path_dict', {}).values()
            best = {*best, getattr(self, 'best_ckpt_path', None)}
            self.file_backend.remove_outdated(but={*best, self.last_ckpt})


# Configs name MMEngine's hook, and users start them with MMDetection's tools as well as with ours.
MMENGINE_HOOKS.register_module(name='CheckpointHook', force=True, module=CheckpointHook)


def _refuse_sharding(runner: Runner) -> None:
    if not isinstance(unwrapped(runner), Distiller):
        return
    strategy = getattr(runner, 'strategy', None)
    kind = type(strategy).__name__
    if strategy and kind not in STRATEGIES:
        raise DistillationError(
            f'strategy={kind}: it cuts the parameters into pieces under names of its own, and a '
            "distiller's checkpoint has the student's names; use DDPStrategy, or the plain Runner. "
            'The teacher, which is no part of the model, would stay whole in any case.'
        )
    if isinstance(runner.model, (MMFullyShardedDataParallel, MMSeparateDistributedDataParallel)):
        raise DistillationError(
            f'model_wrapper_cfg={type(runner.model).__name__}: it wraps the parts of a distiller, '
            "whose checkpoint has the student's names; use MMDistributedDataParallel, or leave "
            'model_wrapper_cfg out.'
        )


def _measure_balances_anew(model: nn.Module) -> None:
    """What ``load_from`` brought was measured with the losses of another training."""
    for module in model.modules():
        if isinstance(module, LossBalance):
            module.reset()


def _sampler(loader: DataLoader) -> Any:
    """The sampler, which batch samplers such as MMDetection's by aspect ratio hold."""
    return getattr(loader.batch_sampler, 'sampler', loader.sampler)


def _accumulated_gradients(runner: Runner) -> dict[str, Tensor]:
    """Gradients by parameter that wait for more before the optimizer's next step.

    Each rank has its own until then; from here on all have their mean, which changes the step by
    rounding only.
    """
    wrapper = runner.optim_wrapper
    if not isinstance(wrapper, OptimWrapper) or wrapper.should_update():
        return {}
    parameters = dict(unwrapped(runner).named_parameters())
    mine = {name for name, parameter in parameters.items() if parameter.grad is not None}
    # Another rank may have used what this one did not.
    used = set().union(*all_gather_object(mine))
    gradients = {}
    for name, parameter in parameters.items():
        if name not in used:
            continue
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        if get_world_size() > 1:
            dist.all_reduce(parameter.grad)
            parameter.grad /= get_world_size()
        gradients[name] = parameter.grad.cpu()
    return gradients


def _not_finite(checkpoint: dict, parameters: set[str]) -> Iterator[str]:
    """Names of tensors that hold NaN, or infinities where those cannot be meant.

    Buffers may: masks of attention hold -inf.
    """
    for part in ('state_dict', 'ema_state_dict'):
        for name, value in checkpoint.get(part, {}).items():
            if not isinstance(value, Tensor) or not value.is_floating_point():
                continue
            is_buffer = name.removeprefix('module.') not in parameters
            if value.isnan().any() or (not is_buffer and value.isinf().any()):
                yield name
    for index, state in checkpoint.get('optimizer', {}).get('state', {}).items():
        for name, value in state.items():
            if isinstance(value, Tensor) and not value.isfinite().all():
                yield f'optimizer.{index}.{name}'
