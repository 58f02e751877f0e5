"""What OpenMMLab's packages need to know about their maintained fork and a distiller's config.

And what PyTorch's versions call by different names.

MMEngine resolves ``_base_ = 'mmseg::…'`` by the name of the *distribution* that upstream
MMSegmentation is published under. The fork ships the same module under another distribution
name, so the inheritance fails and ``mmengine.hub.get_config`` goes on to install upstream
MMSegmentation over the fork. Looked up by its module name, the package is found under either
distribution.

This package's own configs are found as ``diffkd_mm::path``, as those of OpenMMLab's packages are.

MMDetection's ``init_detector`` reads ``config.model.backbone``, which a distiller's config has in
its student.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from mmengine.config import Config, ConfigDict
from mmengine.config.utils import MODULE2PACKAGE
from mmengine.dataset import InfiniteSampler
from mmengine.hub import hub
from mmengine.runner import loops
from torch import nn
from torch.utils.data import BatchSampler, DataLoader
from torch.utils.flop_counter import FlopCounterMode

from .versions import numbers

TORCH = numbers(torch.__version__)
"""PyTorch's version, such as (2, 1, 2)."""
RUNS_ALL_ON_META = TORCH >= (2, 6)
"""Whether lists of tensors and activation checkpointing work without data; not in 2.1, where
between is not known."""
OutOfMemoryError = getattr(torch, 'OutOfMemoryError', torch.cuda.OutOfMemoryError)
PACKAGE = Path(__file__).parent
MIM = PACKAGE / '.mim'
"""Configs, tools and metafiles, where OpenMMLab's packages carry theirs."""
OWN = 'diffkd_mm::'


def _is_distribution(name: str) -> bool:
    try:
        distribution(name)
    except PackageNotFoundError:
        return False
    return True


def find_packages_by_module() -> None:
    """Lets MMEngine find packages whose distribution name is not the one it expects."""
    for module, package in MODULE2PACKAGE.items():
        if not _is_distribution(package) and find_spec(module) is not None:
            MODULE2PACKAGE[module] = module


def own_config(config: str) -> str:
    """Path of the file that ``diffkd_mm::path`` means; anything else as it is."""
    return str(MIM / 'configs' / config.removeprefix(OWN)) if config.startswith(OWN) else config


def find_own_configs() -> None:
    """Lets MMEngine find configs of this package, by inheritance and by ``get_config``.

    MMEngine has a list of the packages whose configs it reads, and demands a folder after the
    ``::``. What is inherited from a package gets its scope; ours get none, since the models and
    datasets in them are those of the packages that they are based on. Older MMEngine looks for a
    package that is installed editably in the wrong folder.
    """
    path_of, package_and_path = Config._get_cfg_path, hub._get_package_and_cfg_path
    installed_path = hub.get_installed_path

    def own_path(config: str, filename: str) -> tuple[str, str | None]:
        own = own_config(config)
        return (own, None) if own != config else path_of(config, filename)

    def own_package_and_path(config: str) -> tuple[str, str]:
        if config.startswith(OWN):
            return OWN.removesuffix('::'), config.removeprefix(OWN)
        return package_and_path(config)

    def own_installed_path(package: str) -> str:
        return str(PACKAGE) if package == PACKAGE.name else installed_path(package)

    Config._get_cfg_path = staticmethod(own_path)
    hub._get_package_and_cfg_path = own_package_and_path
    hub.get_installed_path = own_installed_path


def show_the_students_config() -> None:
    """Lets attributes that a distiller's config lacks be found in its student's.

    As for the models themselves: what code reaches for in a model is the student's. Only attributes
    (``config.model.backbone``) are found so, not keys.
    """
    own_attribute = ConfigDict.__getattr__

    def attribute(self: ConfigDict, name: str) -> Any:
        try:
            return own_attribute(self, name)
        except AttributeError:
            kind = dict.get(self, 'type')
            kind = getattr(kind, '__name__', kind)
            student = dict.get(self, 'student')
            if str(kind).split('.')[-1] != 'Distiller' or not isinstance(student, ConfigDict):
                raise
            return getattr(student, name)

    ConfigDict.__getattr__ = attribute


def is_autocast_enabled(device: str) -> bool:
    """Whether autocast is on for a type of device, such as ``cpu``."""
    if TORCH < (2, 4):
        on_cpu = device == 'cpu'
        return torch.is_autocast_cpu_enabled() if on_cpu else torch.is_autocast_enabled()
    return torch.is_autocast_enabled(device)


@contextmanager
def plain_attention() -> Iterator[None]:
    """A context in which attention is computed by matrix products, not by fused kernels."""
    if TORCH < (2, 3):
        # Modules have no switch for their own kernel, but do not take it under autocast.
        seemingly = patch.object(torch, 'is_autocast_enabled', lambda: True)
        with seemingly, torch.backends.cuda.sdp_kernel(False, True, False):
            yield
        return
    from torch.nn.attention import SDPBackend, sdpa_kernel

    fastpath = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fastpath)


@contextmanager
def freezing_compiler() -> Iterator[None]:
    """A context in which compilation without gradients takes weights for constants.

    One piece of code, such as that of ``nn.Sequential``, may then be compiled for many modules.
    """
    from torch._dynamo import config as dynamo
    from torch._inductor import config as inductor

    limit = 'recompile_limit' if hasattr(dynamo, 'recompile_limit') else 'cache_size_limit'
    with inductor.patch(freezing=True), dynamo.patch({limit: 128}):
        yield


def has_global_hooks() -> bool:
    """Whether there are hooks that wait for a call of any module."""
    kinds = ('forward_pre', 'forward', 'backward_pre', 'backward')
    return any(getattr(nn.modules.module, f'_global_{kind}_hooks') for kind in kinds)


def flop_counter(modules: Sequence[nn.Module], **options: Any) -> FlopCounterMode:
    """PyTorch's counter of what runs without gradients, by module as well.

    Args:
        modules (Sequence[nn.Module]): Whose parts are counted; later versions find them themselves.
        **options: Of the counter.
    """
    if TORCH < (2, 4):
        return _OlderFlopCounter(list(modules), display=False, **options)
    return FlopCounterMode(display=False, **options)


class _OlderFlopCounter(FlopCounterMode):
    """Knows the running module without touching its tensors, for which gradients were the reason.

    Modules that take or return tuples would not run with it otherwise.
    """

    def _enter_module(self, name: str) -> Callable:
        return lambda module, inputs: self.parents.append(name)

    def _exit_module(self, name: str) -> Callable:
        def leave(module: nn.Module, inputs: Any, outputs: Any) -> None:
            self.parents.pop()

        return leave


class _LateIterator(loops._InfiniteDataloaderIterator):
    """Starts no worker and draws no number before its first batch: hooks that seed come first."""

    def __init__(self, dataloader: DataLoader) -> None:
        self._dataloader, self._iterator, self._epoch = dataloader, None, 0
        self._to_pass_over, self._by_index = 0, False

    def pass_over(self, num_batches: int) -> None:
        """Answers the next batches asked for with None; loads them only where it has to."""
        batches = self._dataloader.batch_sampler
        sampler = getattr(batches, 'sampler', None)
        if type(batches) is BatchSampler and isinstance(sampler, InfiniteSampler):
            sampler.skip(num_batches * batches.batch_size)
            self._to_pass_over = num_batches
        elif self._dataloader.num_workers == 0 and batches is not None:
            self._to_pass_over, self._by_index = num_batches, True

    def __next__(self) -> Any:
        if self._iterator is None and (self._by_index or not self._to_pass_over):
            self._iterator = iter(self._dataloader)
        if not self._to_pass_over:
            return super().__next__()
        self._to_pass_over -= 1
        if self._by_index:
            self._next_index()
        return None

    def _next_index(self) -> None:
        try:
            self._iterator._next_index()
        except StopIteration:
            self._epoch += 1
            batches = self._dataloader.batch_sampler
            for sampler in (self._dataloader.sampler, getattr(batches, 'sampler', None)):
                if hasattr(sampler, 'set_epoch'):
                    sampler.set_epoch(self._epoch)
                    break
            self._iterator = iter(self._dataloader)
            self._iterator._next_index()


def resume_without_loading() -> None:
    """Gives older MMEngine what later ones do when a training by iterations is resumed.

    They loaded all batches seen before once more, which takes time and draws random numbers, so
    the training did not go on as if it had not been interrupted.
    """
    if hasattr(InfiniteSampler, 'skip'):
        return

    def skip(self: InfiniteSampler, num_samples: int) -> None:
        self.indices = islice(self._indices_of_rank(), num_samples, None)

    run_whole = loops.IterBasedTrainLoop.run

    def run(self: loops.IterBasedTrainLoop) -> nn.Module:
        self.dataloader_iterator.pass_over(self._iter)
        return run_whole(self)

    InfiniteSampler.skip = skip
    loops.IterBasedTrainLoop.run = run
    loops._InfiniteDataloaderIterator = _LateIterator


find_packages_by_module()
resume_without_loading()
find_own_configs()
show_the_students_config()
