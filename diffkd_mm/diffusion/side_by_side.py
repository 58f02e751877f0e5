"""Networks of equal structure, one per level, run layer by layer side by side.

What is done to each level's map alone is then one operator for all levels: on a GPU one launch.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import Function, once_differentiable

from ..compat import has_global_hooks
from . import fused
from .layers import Bottleneck

Networks = Sequence[nn.Module]


def can_run_side_by_side(networks: Networks) -> bool:
    """Whether every level has its own network, and none has to be called itself."""
    return (
        len(set(networks)) == len(networks) > 1
        and not has_global_hooks()
        and not fused.must_be_called(networks)
    )


def run_side_by_side(networks: Networks, maps: Sequence[Tensor]) -> Sequence[Tensor]:
    """Computes ``[network(x) for network, x in zip(networks, maps)]``.

    Args:
        networks (Sequence[nn.Module]): One per level, of equal structure. Sequences and bottlenecks
            are followed into their layers.
        maps (Sequence[Tensor]): Their inputs.

    Returns:
        Sequence[Tensor]: Their outputs.
    """
    counters: list[Tensor] = []
    outputs = _run(networks, maps, counters)
    if counters:
        torch._foreach_add_(counters, 1)
    return outputs


def run_all(networks: Networks, maps: Sequence[Tensor]) -> Sequence[Tensor]:
    """The same, side by side if that can be."""
    if can_run_side_by_side(networks):
        return run_side_by_side(networks, maps)
    return [network(x) for network, x in zip(networks, maps)]


def _run(networks: Networks, maps: Sequence[Tensor], counters: list[Tensor]) -> Sequence[Tensor]:
    """Runs the networks, and gathers the counters of batches that are still to be counted up."""
    if fused.must_be_called(networks):
        return [network(x) for network, x in zip(networks, maps)]
    if type(networks[0]) is nn.Sequential:
        for layers in zip(*networks):
            maps = _run(layers, maps, counters)
        return maps
    if type(networks[0]) is Bottleneck:
        return _run_bottlenecks(networks, maps, counters)
    if type(networks[0]) is nn.ReLU and not fused.is_on_cpu(maps[0]):
        return _ReLU.apply(*maps)
    if all(_counts_up(network) for network in networks):
        counters += [norm.num_batches_tracked for norm in networks]
        return [_batch_norm(norm, x) for norm, x in zip(networks, maps)]
    return [network(x) for network, x in zip(networks, maps)]


def _run_bottlenecks(
    bottlenecks: Sequence[Bottleneck], maps: Sequence[Tensor], counters: list[Tensor]
) -> Sequence[Tensor]:
    maps, shortcuts = fork(maps)
    hidden = _run([x.block[:6] for x in bottlenecks], maps, counters)
    convs, norms = zip(*(x.block[6:] for x in bottlenecks))
    if fused.can_fold(convs, norms, hidden):
        return fused.conv_norm_add(convs, norms, hidden, shortcuts)
    outputs = _run(norms, _run(convs, hidden, counters), counters)
    return weighted_sum(outputs, shortcuts)


def _counts_up(module: nn.Module) -> bool:
    """Whether it is a batch norm that counts batches without having a use for the number."""
    return (
        type(module) is nn.BatchNorm2d
        and module.training
        and module.num_batches_tracked is not None
        and module.momentum is not None
    )


def _batch_norm(norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
    """What the layer does, but for the counting."""
    statistics = norm.running_mean, norm.running_var
    return F.batch_norm(x, *statistics, norm.weight, norm.bias, True, norm.momentum, norm.eps)


def weighted_sum(
    xs: Sequence[Tensor], ys: Sequence[Tensor], x_weight: float = 1.0, y_weight: float = 1.0
) -> tuple[Tensor, ...]:
    """Computes ``[x_weight * x + y_weight * y for x, y in zip(xs, ys)]``."""
    return _WeightedSum.apply(x_weight, y_weight, *xs, *ys)


def fork(
    tensors: Sequence[Tensor], times: int = 2, as_vector: bool = False
) -> list[Sequence[Tensor]]:
    """Makes lists of the same tensors, for as many uses, whose gradients are added up list by list.

    Args:
        tensors (Sequence[Tensor]): The tensors.
        times (int): Number of uses. Defaults to 2.
        as_vector (bool): Whether the gradients of a list are copied into one vector first, which
            is for small tensors where a list is a loop. Defaults to False.
    """
    if times < 2:
        return [tensors] * times
    return fused.in_lists(_Fork.apply(times, as_vector, *tensors), len(tensors))


class _WeightedSum(Function):
    @staticmethod
    def forward(ctx, x_weight: float, y_weight: float, *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.weights = x_weight, y_weight
        xs, ys = fused.in_lists(tensors, len(tensors) // 2)
        scaled = xs if x_weight == 1 else torch._foreach_mul(xs, x_weight)
        return tuple(torch._foreach_add(scaled, ys, alpha=y_weight))

    @staticmethod
    @once_differentiable
    def backward(ctx, *grads: Tensor) -> tuple:
        scaled = [grads if x == 1 else torch._foreach_mul(grads, x) for x in ctx.weights]
        return None, None, *scaled[0], *scaled[1]


class _Fork(Function):
    @staticmethod
    def forward(ctx, times: int, as_vector: bool, *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.shapes = [x.shape for x in tensors]
        ctx.as_vector = as_vector
        return tuple(x.view_as(x) for _ in range(times) for x in tensors)

    @staticmethod
    @once_differentiable
    def backward(ctx, *grads: Tensor) -> tuple:
        first, *others = fused.in_lists(grads, len(ctx.shapes))
        if ctx.as_vector:
            total = _vector(first)
            for other in others:
                total += _vector(other)
            parts = total.split([x.numel() for x in ctx.shapes])
            return None, None, *(x.view(shape) for x, shape in zip(parts, ctx.shapes))
        total = torch._foreach_add(first, others[0])
        for other in others[1:]:
            torch._foreach_add_(total, other)
        return None, None, *total


def _vector(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([x.flatten() for x in tensors])


class _ReLU(Function):
    @staticmethod
    def forward(ctx, *maps: Tensor) -> tuple[Tensor, ...]:
        outputs = torch._foreach_clamp_min(maps, 0)
        ctx.save_for_backward(*outputs)
        return tuple(outputs)

    @staticmethod
    @once_differentiable
    def backward(ctx, *grads: Tensor) -> tuple[Tensor, ...]:
        scaled = torch._foreach_sign(ctx.saved_tensors)
        torch._foreach_mul_(scaled, grads)
        return tuple(scaled)
