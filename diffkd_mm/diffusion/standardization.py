"""Standardisation of teacher features: a diffusion schedule assumes unit variance."""

import torch
import torch.distributed as dist
from torch import Tensor, nn


class Standardization(nn.Module):
    """Brings a feature to zero mean and unit variance by running statistics.

    The statistics are the mean over the first ``1 / momentum`` training batches and an exponential
    average after that, over all processes. They are part of the checkpoint. Not in the paper,
    which diffuses the teacher's feature as it is.

    Args:
        channels (int): Channels C of the feature.
        mode (str): ``'channel'``: mean and variance per channel. ``'scale'``: one scale for all
            channels, the root mean square; zero stays zero. Defaults to ``'channel'``.
        momentum (float): Weight of a new batch once the average is full. Defaults to 0.01.

    Raises:
        ValueError: If the mode is unknown.
    """

    def __init__(self, channels: int, mode: str = 'channel', momentum: float = 0.01) -> None:
        super().__init__()
        if mode not in ('channel', 'scale'):
            raise ValueError(f"standardize={mode!r} must be None, 'channel' or 'scale'.")
        self.mode = mode
        self.momentum = momentum
        size = channels if mode == 'channel' else 1
        self.register_buffer('mean', torch.zeros(size))
        self.register_buffer('mean_square', torch.ones(size))
        self.register_buffer('num_batches', torch.tensor(0))

    @torch.no_grad()
    def _update(self, x: Tensor) -> None:
        dims = (0, 2, 3) if self.mode == 'channel' else (0, 1, 2, 3)
        moments = torch.stack([x.mean(dims).view(-1), x.square().mean(dims).view(-1)])
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(moments)
            moments /= dist.get_world_size()
        self.num_batches += 1
        weight = (1 / self.num_batches).clamp(min=self.momentum).to(moments.dtype)
        if self.mode == 'channel':
            self.mean.lerp_(moments[0], weight)
        self.mean_square.lerp_(moments[1], weight)

    @property
    def deviation(self) -> Tensor:
        """What features are divided by, of shape (C,), or (1,) with ``mode='scale'``."""
        return self._variance().sqrt()

    def _variance(self) -> Tensor:
        return (self.mean_square - self.mean.square()).clamp(min=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        """Standardises maps (B, C, H, W) or vectors (B, C).

        In training mode the batch updates the statistics first.
        """
        if x.dim() == 2:
            return self(x[:, :, None, None]).flatten(1)
        x = x.to(self.mean.dtype)  # half precision has no room for squares
        if self.training:
            self._update(x)
        return (x - self.mean[:, None, None]) * self._variance().rsqrt()[:, None, None]
