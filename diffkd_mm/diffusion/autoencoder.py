"""What compresses teacher features before diffusion (DiffKD, Sec. 3.2), learned or fixed."""

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import DistillationError
from ..registry import MODELS
from .layers import PointwiseConv, build_norm


@MODELS.register_module()
class LinearAutoencoder(nn.Module):
    """1×1 conv C_t → C with a norm as encoder, 1×1 conv C → C_t as decoder.

    The norm after the encoder follows the authors' code.

    Args:
        in_channels (int): Teacher channels C_t.
        latent_channels (int): Latent channels C; may exceed C_t.
        norm_cfg (dict, optional): Normalisation layer. Defaults to ``dict(type='BN')``.
    """

    def __init__(
        self, in_channels: int, latent_channels: int, norm_cfg: dict | None = None
    ) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            PointwiseConv(in_channels, latent_channels),
            build_norm(norm_cfg or dict(type='BN'), latent_channels),
        )
        self.decoder = PointwiseConv(latent_channels, in_channels)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Encodes and decodes.

        Args:
            x (Tensor): Teacher feature of shape (B, C_t, H, W).

        Returns:
            tuple[Tensor, Tensor]: Latent of shape (B, C, H, W) and reconstruction of shape
            (B, C_t, H, W).
        """
        latent = self.encoder(x)
        return latent, self.decoder(latent)


class _FixedProjection(nn.Module):
    """C latent channels by a matrix that is not learned, then a norm without learned parameters.

    The norm is the one that follows the encoder of :class:`LinearAutoencoder`, so that latents of
    all kinds have the same scale. There is no decoder, for nothing needs it.

    Args:
        in_channels (int): Teacher channels C_t.
        latent_channels (int): Latent channels C.
        norm_cfg (dict, optional): Normalisation layer. Defaults to ``dict(type='BN')``.
    """

    matrix: Tensor

    def __init__(
        self, in_channels: int, latent_channels: int, norm_cfg: dict | None = None
    ) -> None:
        super().__init__()
        self.register_buffer('matrix', torch.zeros(latent_channels, in_channels))
        self.norm = build_norm(norm_cfg or dict(type='BN'), latent_channels).requires_grad_(False)

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        """Maps (B, C_t, H, W) to a latent of shape (B, C, H, W); there is no reconstruction."""
        latent = F.linear(x.movedim(1, -1), self.matrix.to(x.dtype)).movedim(-1, 1)
        return self.norm(latent), None


@MODELS.register_module()
class RandomProjection(_FixedProjection):
    """Random weights, drawn once from N(0, 1/C_t). Not in the paper.

    Args:
        in_channels (int): Teacher channels C_t.
        latent_channels (int): Latent channels C; may exceed C_t.
        norm_cfg (dict, optional): Normalisation layer. Defaults to ``dict(type='BN')``.
    """

    def __init__(
        self, in_channels: int, latent_channels: int, norm_cfg: dict | None = None
    ) -> None:
        super().__init__(in_channels, latent_channels, norm_cfg)
        nn.init.normal_(self.matrix, std=in_channels**-0.5)


@MODELS.register_module()
class PCAProjection(_FixedProjection):
    """The principal components of the teacher's channels in the first batch. Not in the paper.

    The batch is that of all processes together, its positions are the samples. With the batch norm
    that follows, every component has mean 0 and variance 1.

    Args:
        in_channels (int): Teacher channels C_t.
        latent_channels (int): Latent channels C, at most C_t.
        norm_cfg (dict, optional): Normalisation layer. Defaults to ``dict(type='BN')``.

    Raises:
        DistillationError: If C exceeds C_t.
    """

    def __init__(
        self, in_channels: int, latent_channels: int, norm_cfg: dict | None = None
    ) -> None:
        if latent_channels > in_channels:
            raise DistillationError(
                f'PCAProjection: latent_channels={latent_channels} exceeds the number of '
                f"components, which is that of the teacher's channels, {in_channels}."
            )
        super().__init__(in_channels, latent_channels, norm_cfg)
        self.register_buffer('fitted', torch.tensor(False))

    @torch.no_grad()
    def _fit(self, x: Tensor) -> None:
        samples = x.double().movedim(1, -1).flatten(0, -2)
        moments = torch.cat([samples.t() @ samples, samples.sum(0, keepdim=True)])
        count = torch.tensor(float(len(samples)), device=x.device)
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(moments)
            dist.all_reduce(count)
        moments /= count
        mean = moments[-1]
        covariance = moments[:-1] - torch.outer(mean, mean)
        components = torch.linalg.eigh(covariance).eigenvectors  # the largest eigenvalue last
        self.matrix.copy_(components.t().flip(0)[: len(self.matrix)])
        self.fitted.fill_(True)

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        """Maps (B, C_t, H, W) to a latent of shape (B, C, H, W); there is no reconstruction."""
        if self.training and not self.fitted:
            self._fit(x)
        return super().forward(x)
