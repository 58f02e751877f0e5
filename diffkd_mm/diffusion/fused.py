"""Fused arithmetic: what computes faster than the plain line that it stands for."""

import torch
from torch import Tensor, nn

from ..compat import is_autocast_enabled


def is_on_cpu(x: Tensor) -> bool:
    """Whether products over pixels pay; elsewhere operators are launches, and few of them do."""
    return x.device.type == 'cpu'


def conv_norm_add(conv: nn.Conv2d, norm: nn.Module, x: Tensor, residual: Tensor) -> Tensor:
    """Computes ``norm(conv(x)) + residual``; in training without ever storing ``conv(x)``.

    The mean and variance that a batch norm finds in y = W·x + b follow from those of x:
    E[y] = W·E[x] + b and Var[y] = diag(W·Cov[x]·Wᵀ). So the norm is folded into the weight and
    bias of the convolution, and gradients flow through the folding as through anything else.
    Where x has fewer channels than y, the K×K covariance costs less than the passes over y that
    the norm and its gradient would need. Other devices than the CPU, other norms than
    ``nn.BatchNorm2d``, evaluation, and autocast, whose dtypes are too coarse for a covariance, take
    the plain way.

    Args:
        conv (nn.Conv2d): 1×1 convolution K → C.
        norm (nn.Module): Normalisation of C channels.
        x (Tensor): Input of shape (B, K, H, W).
        residual (Tensor): Added to the result, of shape (B, C, H, W).

    Returns:
        Tensor: Shape (B, C, H, W).
    """
    if not _is_foldable(norm, x):  # the plain line, which all below stands for
        return norm(conv(x)) + residual
    pixels = x.permute(0, 2, 3, 1).flatten(0, 2)
    count = pixels.size(0)
    weight = conv.weight.flatten(1)
    mean = pixels.mean(0)
    # Cov[x] = E[x·xᵀ] − E[x]·E[x]ᵀ in one call.
    covariance = torch.addmm(mean.outer(mean), pixels.T, pixels, beta=-1, alpha=1 / count)
    # Rounding can bring the variance of a constant channel below zero.
    variance = (weight @ covariance).mul(weight).sum(1).clamp(min=0)
    if norm.track_running_stats:
        _update_running_statistics(
            norm, torch.addmv(conv.bias, weight, mean), variance * (count / (count - 1))
        )
    weight = weight * (norm.weight * (variance + norm.eps).rsqrt())[:, None]
    # The convolution's own bias cancels. Its gradient is zero, which is not the same as missing to
    # DDP, so it stays in the graph.
    bias = torch.add(norm.bias - weight @ mean, conv.bias, alpha=0)
    shape = residual.permute(0, 2, 3, 1).shape
    # The sum is ours alone, so the product may be accumulated into it.
    out = residual.permute(0, 2, 3, 1).flatten(0, 2).add(bias).addmm_(pixels, weight.T)
    return out.view(shape).permute(0, 3, 1, 2)


@torch.no_grad()
def _update_running_statistics(norm: nn.BatchNorm2d, mean: Tensor, variance: Tensor) -> None:
    """What ``nn.BatchNorm2d`` does itself when it sees a batch."""
    momentum = norm.momentum
    if norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(1)
        if momentum is None:  # PyTorch's sign for an average over all batches
            momentum = 1 / norm.num_batches_tracked.item()
    norm.running_mean.lerp_(mean, momentum)
    norm.running_var.lerp_(variance, momentum)


def _is_foldable(norm: nn.Module, x: Tensor) -> bool:
    return (
        is_on_cpu(x)  # where it was measured to pay
        and type(norm) is nn.BatchNorm2d
        and norm.training
        and norm.affine
        and x.dtype in (torch.float32, torch.float64)
        and not is_autocast_enabled(x.device.type)
        and x.numel() > x.size(1)  # a single pixel is left to the norm, which refuses it
    )
