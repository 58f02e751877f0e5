"""Blocks shared by the denoisers and the noise adapters."""

from math import gcd

import torch.nn.functional as F
from mmcv.cnn import build_norm_layer
from torch import Tensor, nn

from . import fused


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
        if not fused.is_on_cpu(x):
            return super().forward(x)
        pixels = x.permute(0, 2, 3, 1)
        return F.linear(pixels, self.weight.flatten(1), self.bias).permute(0, 3, 1, 2)


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
        hidden = self.block[:6](x)
        conv, norm = self.block[6:]
        if fused.can_fold([conv], [norm], [hidden]):
            return fused.conv_norm_add([conv], [norm], [hidden], [x])[0]
        return norm(conv(hidden)) + x


def mlp(channels: int, hidden: int, norm_cfg: dict) -> list[nn.Module]:
    """1×1 convs C → hidden → C with norm and ReLU between them, for vectors as (B, C, 1, 1)."""
    return [
        PointwiseConv(channels, hidden),
        build_norm(norm_cfg, hidden),
        nn.ReLU(inplace=True),
        PointwiseConv(hidden, channels),
    ]
