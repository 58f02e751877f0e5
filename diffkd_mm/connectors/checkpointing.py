"""Activation checkpointing that counts every batch once in the running statistics."""

from contextlib import nullcontext

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.utils.checkpoint import checkpoint


class _FrozenRunningStatistics:
    """Keeps the running statistics as they are; entered once for every backward pass.

    A momentum of zero does that; the layers save the same tensors for the backward pass as in
    their first run, which checkpointing insists on.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def __enter__(self) -> None:
        norms = (m for m in self.module.modules() if isinstance(m, _NormBase))
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


def checkpoint_without_norm_update(module: nn.Module, *args: Tensor) -> Tensor:
    """Runs ``module(*args)`` storing its inputs alone; the backward pass runs it again.

    The second run leaves the running statistics of batch norms alone.

    Args:
        module (nn.Module): The module, which draws no random numbers.
        *args (Tensor): Its inputs.

    Returns:
        Tensor: The module's output.
    """
    return checkpoint(
        module,
        *args,
        use_reentrant=False,
        preserve_rng_state=False,
        context_fn=lambda: (nullcontext(), _FrozenRunningStatistics(module)),
    )
