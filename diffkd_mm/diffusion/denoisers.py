"""Denoisers Φ: predict the noise in a noisy teacher feature (DiffKD, Sec. 3.2)."""

from collections.abc import Sequence

from torch import Tensor, nn

from ..registry import MODELS
from .layers import Bottleneck, PointwiseConv, build_norm, mlp
from .side_by_side import can_run_side_by_side, run_side_by_side

NUM_TIME_EMBEDDINGS = 1280  # rows of the official table; the 1000 timesteps use the first 1000


class _TimeConditioned(nn.Module):
    """Adds a learned embedding of the timestep to the input, then runs ``self.net``.

    Args:
        channels (int): Channels C of the feature.
    """

    net: nn.Module

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.time_embedding = nn.Embedding(NUM_TIME_EMBEDDINGS, channels)

    def forward(self, x: Tensor, timesteps: Tensor) -> Tensor:
        """Predicts the noise in ``x``.

        Args:
            x (Tensor): Noisy feature x_t of shape (B, C, H, W).
            timesteps (Tensor): Integer timesteps t of shape (B,), or (1,) for all samples.

        Returns:
            Tensor: Predicted noise of shape (B, C, H, W).
        """
        return self.net(self.embed(x, timesteps))

    def embed(self, x: Tensor, timesteps: Tensor) -> Tensor:
        """The feature with the embedding of its timestep."""
        return x + self.time_embedding(timesteps)[:, :, None, None]


def predict_noise(
    denoisers: Sequence[nn.Module], maps: Sequence[Tensor], timesteps: Sequence[Tensor]
) -> Sequence[Tensor]:
    """Predicts the noise in the maps of all levels.

    Args:
        denoisers (Sequence[nn.Module]): One per level.
        maps (Sequence[Tensor]): Noisy features x_t of shape (B, C, H, W).
        timesteps (Sequence[Tensor]): Integer timesteps t of each, of shape (B,) or (1,).

    Returns:
        Sequence[Tensor]: Predicted noise of the same shapes.
    """
    if all(isinstance(x, _TimeConditioned) for x in denoisers) and can_run_side_by_side(denoisers):
        embedded = [x.embed(*inputs) for x, *inputs in zip(denoisers, maps, timesteps)]
        return run_side_by_side([x.net for x in denoisers], embedded)
    return [denoiser(*inputs) for denoiser, *inputs in zip(denoisers, maps, timesteps)]


@MODELS.register_module()
class BottleneckDenoiser(_TimeConditioned):
    """The light denoiser for feature maps: two bottlenecks and a 1×1 conv (Fig. 3, right).

    0.2079 M parameters at C=256 without the time table, the paper's "0.21 M" (appendix C.2).

    Args:
        channels (int): Channels C of the feature.
        norm_cfg (dict, optional): Normalisation layer. Defaults to ``dict(type='BN')``.
    """

    def __init__(self, channels: int, norm_cfg: dict | None = None) -> None:
        super().__init__(channels)
        norm_cfg = norm_cfg or dict(type='BN')
        self.net = nn.Sequential(
            Bottleneck(channels, norm_cfg=norm_cfg),
            Bottleneck(channels, norm_cfg=norm_cfg),
            PointwiseConv(channels, channels),
            build_norm(norm_cfg, channels),
        )


@MODELS.register_module()
class VectorDenoiser(_TimeConditioned):
    """The denoiser for vectors such as logits, given as (B, C, 1, 1): two MLPs of width 4C.

    Follows the authors' classification code.

    Args:
        channels (int): Length C of the vector.
        norm_cfg (dict, optional): Normalisation layer. Defaults to ``dict(type='BN')``.
    """

    def __init__(self, channels: int, norm_cfg: dict | None = None) -> None:
        super().__init__(channels)
        norm_cfg = norm_cfg or dict(type='BN')
        hidden = 4 * channels
        self.net = nn.Sequential(
            *mlp(channels, hidden, norm_cfg),
            build_norm(norm_cfg, channels),
            *mlp(channels, hidden, norm_cfg),
        )
