"""Adaptive noise matching: how much noise a student feature lacks (DiffKD, Sec. 3.3, eq. 8)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..registry import MODELS
from .layers import Bottleneck, build_norm, mlp
from .side_by_side import can_run_side_by_side, fork, run_side_by_side


class _NoiseAdapter(nn.Module):
    """Predicts the weight γ of a student feature per sample and mixes in noise.

    Args:
        channels (int): Channels C of the projected student feature.
    """

    features: nn.Module

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(channels, 2)

    def forward(self, x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Computes z_T = γ·z + (1−γ)·ε. Note that γ weighs the *student*.

        Args:
            x (Tensor): Projected student feature z of shape (B, C, H, W).
            noise (Tensor): ε ~ N(0, I) of the same shape.

        Returns:
            tuple[Tensor, Tensor]: z_T of shape (B, C, H, W) and γ of shape (B,).
        """
        noise_weight = share_of_student(self.logits(self.features(x)))
        return _mix(x, noise, noise_weight), noise_weight

    def logits(self, features: Tensor) -> Tensor:
        """What γ is the softmax of, of shape (B, 2), from the output of ``self.features``."""
        return self.linear(features.mean(dim=(2, 3)))


def share_of_student(logits: Tensor) -> Tensor:
    """γ of shape (B,) from an adapter's logits of shape (B, 2)."""
    return logits.float().softmax(dim=-1)[..., 0]


def _mix(x: Tensor, noise: Tensor, noise_weight: Tensor) -> Tensor:
    return torch.lerp(noise, x, noise_weight[:, None, None, None].to(x.dtype))


def match_noise(
    adapters: Sequence[nn.Module], maps: Sequence[Tensor], noises: Sequence[Tensor]
) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
    """Gives the maps of all levels the noise that they lack.

    Args:
        adapters (Sequence[nn.Module]): One per level.
        maps (Sequence[Tensor]): Projected student features z of shape (B, C, H, W).
        noises (Sequence[Tensor]): ε ~ N(0, I) of the same shapes.

    Returns:
        tuple: z_T of shape (B, C, H, W) and γ of shape (B,) of every level.
    """
    if all(isinstance(x, _NoiseAdapter) for x in adapters) and can_run_side_by_side(adapters):
        inputs, maps = fork(maps)
        features = run_side_by_side([x.features for x in adapters], inputs)
        logits = torch.cat([x.logits(feature) for x, feature in zip(adapters, features)])
        noise_weights = share_of_student(logits).split([len(x) for x in maps])
        return [_mix(*args) for args in zip(maps, noises, noise_weights)], noise_weights
    noisy, noise_weights = zip(*(adapter(*args) for adapter, *args in zip(adapters, maps, noises)))
    return noisy, noise_weights


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


@MODELS.register_module()
class ScheduledNoise(nn.Module):
    """Noise that is really added: γ is given, and not learned by an adapter that goes to 1.

    z_T = γ·z + (1−γ)·ε as with an adapter, γ the same for all samples: ``start`` at first, and
    moved evenly to ``end`` over ``iters`` calls in training, which are iterations unless several
    levels share the module. For maps and vectors. Not in the paper.

    Args:
        channels (int): Channels C of the projected student feature, which do not matter here.
        start (float): γ at first, from 0 (noise alone) to 1 (no noise). Defaults to 0.8.
        end (float, optional): γ in the end. Defaults to None: that of the start.
        iters (int): Calls until γ is ``end``. Defaults to 0: from the first one on.
        norm_cfg (dict, optional): Not used; here since adapters are given it.

    Raises:
        ValueError: If a weight does not lie between 0 and 1.
    """

    def __init__(
        self,
        channels: int,
        start: float = 0.8,
        end: float | None = None,
        iters: int = 0,
        norm_cfg: dict | None = None,
    ) -> None:
        super().__init__()
        end = start if end is None else end
        if not (0 <= start <= 1 and 0 <= end <= 1):
            raise ValueError(f'start={start!r} and end={end!r} must lie between 0 and 1.')
        self.start = start
        self.end = end
        self.iters = iters
        self.register_buffer('calls', torch.tensor(0))

    def forward(self, x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Computes z_T = γ·z + (1−γ)·ε.

        Args:
            x (Tensor): Projected student feature z of shape (B, C, H, W).
            noise (Tensor): ε ~ N(0, I) of the same shape.

        Returns:
            tuple[Tensor, Tensor]: z_T of shape (B, C, H, W) and γ of shape (B,).
        """
        part = torch.ones_like(self.calls)
        if self.iters:
            part = (self.calls / self.iters).clamp(max=1)
        noise_weight = (self.start + (self.end - self.start) * part).to(x.dtype)
        if self.training:
            self.calls += 1
        return torch.lerp(noise, x, noise_weight), noise_weight.expand(len(x))
