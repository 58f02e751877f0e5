"""Adaptive noise matching: how much noise a student feature lacks (DiffKD, Sec. 3.3, eq. 8)."""

import torch
from torch import Tensor, nn

from ..registry import MODELS
from .layers import Bottleneck, build_norm, mlp


class _NoiseAdapter(nn.Module):
    """Predicts the weight γ of a student feature per sample and mixes in noise.

    Args:
        channels (int): Channels C of the projected student feature.
    """

    features: nn.Module

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(channels, 2)

    def noise_weight(self, x: Tensor) -> Tensor:
        """Predicts γ in (0, 1) of shape (B,) for a student feature of shape (B, C, H, W)."""
        pooled = self.features(x).mean(dim=(2, 3))
        return self.linear(pooled).float().softmax(dim=1)[:, 0]

    def forward(self, x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Computes z_T = γ·z + (1−γ)·ε. Note that γ weighs the *student*.

        Args:
            x (Tensor): Projected student feature z of shape (B, C, H, W).
            noise (Tensor): ε ~ N(0, I) of the same shape.

        Returns:
            tuple[Tensor, Tensor]: z_T of shape (B, C, H, W) and γ of shape (B,).
        """
        noise_weight = self.noise_weight(x)
        return torch.lerp(noise, x, noise_weight[:, None, None, None].to(x.dtype)), noise_weight


@MODELS.register_module()
class NoiseAdapter(_NoiseAdapter):
    """The adapter for feature maps: bottleneck (reduction 8), average pool, linear C → 2.

    Args:
        channels (int): Channels C of the projected student feature.
        norm_cfg (dict, optional): Normalisation layer. Defaults to ``dict(type='BN')``.
    """

    def __init__(self, channels: int, norm_cfg: dict | None = None) -> None:
        super().__init__(channels)
        self.features = Bottleneck(channels, reduction=8, norm_cfg=norm_cfg)


@MODELS.register_module()
class VectorNoiseAdapter(_NoiseAdapter):
    """The adapter for vectors given as (B, C, 1, 1): MLP of width 2C with norm, linear C → 2.

    Follows the authors' classification code.

    Args:
        channels (int): Length C of the vector.
        norm_cfg (dict, optional): Normalisation layer. Defaults to ``dict(type='BN')``.
    """

    def __init__(self, channels: int, norm_cfg: dict | None = None) -> None:
        super().__init__(channels)
        norm_cfg = norm_cfg or dict(type='BN')
        self.features = nn.Sequential(
            *mlp(channels, 2 * channels, norm_cfg), build_norm(norm_cfg, channels)
        )
