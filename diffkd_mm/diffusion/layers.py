"""Blocks shared by the denoisers and the noise adapters."""

from math import gcd

from mmcv.cnn import build_norm_layer
from torch import Tensor, nn


def build_norm(norm_cfg: dict, channels: int) -> nn.Module:
    """Builds a normalisation layer.

    Args:
        norm_cfg (dict): Config of a layer MMCV knows, e.g. ``dict(type='BN')``. For ``GN`` the
            number of groups is lowered to one that divides ``channels``.
        channels (int): Number of channels.

    Returns:
        nn.Module: The layer.
    """
    if norm_cfg['type'] == 'GN':
        norm_cfg = {**norm_cfg, 'num_groups': gcd(norm_cfg.get('num_groups', 32), channels)}
    return build_norm_layer(norm_cfg, channels)[1]


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
            nn.Conv2d(channels, hidden, 1),
            build_norm(norm_cfg, hidden),
            nn.ReLU(inplace=True),
            nn.Conv2d(hidden, hidden, 3, padding=1),
            build_norm(norm_cfg, hidden),
            nn.ReLU(inplace=True),
            nn.Conv2d(hidden, channels, 1),
            build_norm(norm_cfg, channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, C, H, W) to (B, C, H, W)."""
        return self.block(x) + x


def mlp(channels: int, hidden: int, norm_cfg: dict) -> list[nn.Module]:
    """1×1 convs C → hidden → C with norm and ReLU between them, for vectors as (B, C, 1, 1)."""
    return [
        nn.Conv2d(channels, hidden, 1),
        build_norm(norm_cfg, hidden),
        nn.ReLU(inplace=True),
        nn.Conv2d(hidden, channels, 1),
    ]
