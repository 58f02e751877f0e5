"""Activation checkpointing that counts every batch once in the running statistics."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.utils.checkpoint import checkpoint


class _FrozenRunningStatistics:
    """Keeps the running statistics as they are; entered once for every backward pass.

    A momentum of zero does that; the layers save the same tensors for the backward pass as in
    their first run, which checkpointing insists on.
    """

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        self.modules = modules

    def __enter__(self) -> None:
        layers = (layer for module in self.modules for layer in module.modules())
        norms = (x for x in dict.fromkeys(layers) if isinstance(x, _NormBase))
        self.found = [
            (norm, norm.momentum, norm.num_batches_tracked)
            for norm in norms
            if norm.track_running_stats
        ]
        for norm, _, num_batches_tracked in self.found:
            # A copy, since SyncBN insists on a counter to count up.
            norm.momentum, norm.num_batches_tracked = 0.0, num_batches_tracked.clone()

    def __exit__(self, *exception) -> None:
        for norm, momentum, num_batches_tracked in self.found:
            norm.momentum, norm.num_batches_tracked = momentum, num_batches_tracked


def checkpoint_without_norm_update(
    function: Callable[..., Sequence[Tensor]], modules: Sequence[nn.Module], *args
) -> Sequence[Tensor]:
    """Runs ``function(*args)`` storing its inputs alone; the backward pass runs it again.

    The second run leaves the running statistics of batch norms alone.

    Args:
        function (Callable): Runs modules, and draws no random numbers.
        modules (Sequence[nn.Module]): The modules that it runs.
        *args: Its inputs: tensors and sequences of tensors.

    Returns:
        Sequence[Tensor]: What the function returns.
    """
    return checkpoint(
        function,
        *args,
        use_reentrant=False,
        preserve_rng_state=False,
        context_fn=lambda: (nullcontext(), _FrozenRunningStatistics(modules)),
    )
