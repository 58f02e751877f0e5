"""Blocks shared by the denoisers and the noise adapters."""

from math import gcd

import torch
import torch.nn.functional as F
from mmcv.cnn import build_norm_layer
from torch import Tensor, nn


def build_norm(norm_cfg: dict, channels: int) -> nn.Module:
    """Builds a normalisation layer.

    Args:
        norm_cfg (dict): Config of a layer MMCV knows, e.g. ``dict(type='BN')``. For ``GN`` the
            number of groups is lowered to one that divides ``channels`` and leaves at least four
            of them in a group if it can: of a vector, a group of one is always zero.
        channels (int): Number of channels.

    Returns:
        nn.Module: The layer.
    """
    if norm_cfg['type'] == 'GN':
        most = min(norm_cfg.get('num_groups', 32), max(channels // 4, 1))
        norm_cfg = {**norm_cfg, 'num_groups': gcd(most, channels)}
    return build_norm_layer(norm_cfg, channels)[1]


class PointwiseConv(nn.Conv2d):
    """1×1 convolution, on the CPU as one matrix product over the pixels of a channels-last map.

    Parameters and results are those of ``nn.Conv2d``, whose CPU kernels rearrange weights and
    maps on every call, which costs more than the product itself where maps are small.

    Args:
        in_channels (int): Input channels.
        out_channels (int): Output channels.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, C_in, H, W) to (B, C_out, H, W)."""
        if x.device.type != 'cpu':
            return super().forward(x)
        pixels = x.permute(0, 2, 3, 1)
        return F.linear(pixels, self.weight.flatten(1), self.bias).permute(0, 3, 1, 2)


def conv_norm_add(conv: PointwiseConv, norm: nn.Module, x: Tensor, residual: Tensor) -> Tensor:
    """Computes ``norm(conv(x)) + residual``; in training without ever storing ``conv(x)``.

    The mean and variance that a batch norm finds in y = W·x + b follow from those of x:
    E[y] = W·E[x] + b and Var[y] = diag(W·Cov[x]·Wᵀ). So the norm is folded into the weight and
    bias of the convolution, and gradients flow through the folding as through anything else.
    Where x has fewer channels than y, the K×K covariance costs less than the passes over y that
    the norm and its gradient would need. Other devices than the CPU, other norms than
    ``nn.BatchNorm2d``, evaluation, and autocast, whose dtypes are too coarse for a covariance, take
    the plain way.

    Args:
        conv (PointwiseConv): Convolution K → C.
        norm (nn.Module): Normalisation of C channels.
        x (Tensor): Input of shape (B, K, H, W).
        residual (Tensor): Added to the result, of shape (B, C, H, W).

    Returns:
        Tensor: Shape (B, C, H, W).
    """
    if not _is_foldable(norm, x):
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
        x.device.type == 'cpu'  # where it was measured to pay
        and type(norm) is nn.BatchNorm2d
        and norm.training
        and norm.affine
        and x.dtype in (torch.float32, torch.float64)
        and not torch.is_autocast_enabled(x.device.type)
        and x.numel() > x.size(1)  # a single pixel is left to the norm, which refuses it
    )


class Bottleneck(nn.Module):
    """Residual bottleneck without an activation after the sum (DiffKD, Sec. 3.2 and Fig. 3).

    Args:
        channels (int): Input and output channels C.
        reduction (int): The hidden width is ⌊C/reduction⌋, at least 1. Defaults to 4.
        norm_cfg (dict, optional): Normalisation layer. Defaults to ``dict(type='BN')``.
    """

    def __init__(self, channels: int, reduction: int = 4, norm_cfg: dict | None = None) -> None:
        super().__init__()
        norm_cfg = norm_cfg or dict(type='BN')
        hidden = max(channels // reduction, 1)
        self.block = nn.Sequential(
            PointwiseConv(channels, hidden),
            build_norm(norm_cfg, hidden),
            nn.ReLU(inplace=True),
            nn.Conv2d(hidden, hidden, 3, padding=1),
            build_norm(norm_cfg, hidden),
            nn.ReLU(inplace=True),
            PointwiseConv(hidden, channels),
            build_norm(norm_cfg, channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, C, H, W) to (B, C, H, W)."""
        conv, norm = self.block[6:]
        return conv_norm_add(conv, norm, self.block[:6](x), x)


def mlp(channels: int, hidden: int, norm_cfg: dict) -> list[nn.Module]:
    """1×1 convs C → hidden → C with norm and ReLU between them, for vectors as (B, C, 1, 1)."""
    return [
        PointwiseConv(channels, hidden),
        build_norm(norm_cfg, hidden),
        nn.ReLU(inplace=True),
        PointwiseConv(hidden, channels),
    ]
