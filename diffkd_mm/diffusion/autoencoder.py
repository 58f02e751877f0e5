"""Linear autoencoder that compresses teacher features before diffusion (DiffKD, Sec. 3.2)."""

from torch import Tensor, nn

from ..registry import MODELS
from .layers import PointwiseConv, build_norm


@MODELS.register_module()
class LinearAutoencoder(nn.Module):
    """1×1 conv C_t → C with a norm as encoder, 1×1 conv C → C_t as decoder (eq. 6).

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
