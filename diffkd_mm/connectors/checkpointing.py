"""Activation checkpointing that counts every batch once in the running statistics."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.utils.checkpoint import checkpoint


@contextmanager
def _frozen_running_statistics(module: nn.Module) -> Iterator[None]:
    # A momentum of zero leaves the statistics as they are; the layer saves the same tensors for
    # the backward pass as in its first run, which checkpointing insists on.
    norms = [m for m in module.modules() if isinstance(m, _NormBase) and m.track_running_stats]
    found = [(norm, norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, momentum, num_batches_tracked in found:
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
        context_fn=lambda: (nullcontext(), _frozen_running_statistics(module)),
    )
