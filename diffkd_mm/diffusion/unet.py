"""The heavy denoiser DiffKD is compared with: DDPM's UNet (appendix C.2)."""

from collections.abc import Sequence
from math import gcd

import torch.nn.functional as F
from torch import Tensor, nn

from ..registry import MODELS


@MODELS.register_module()
class UNetDenoiser(nn.Module):
    """The UNet of DDPM, as Hugging Face Diffusers builds it (``pip install diffusers``).

    The paper's UNet has 13.62 M parameters and no description (appendix C.2). The default widths
    are this project's guess: at C=256 they make 13,617,088 parameters, but other widths round to
    13.62 M too, so the count does not tell which UNet the authors took. As in DDPM but for four
    things: attention is in the middle block alone (DDPM has it at one resolution, too), groups are
    fewer in narrow networks, there is no dropout, and no convolution starts at zero.

    Args:
        channels (int): Channels C of the feature.
        norm_cfg (dict, optional): Ignored. The connector hands its own to every denoiser, but the
            group norms are part of this network.
        block_out_channels (Sequence[int]): Width of each resolution, the finest first; each is
            half as fine as the one before. Defaults to (32, 128, 256).

    Raises:
        ImportError: If Diffusers is missing.
    """

    def __init__(
        self,
        channels: int,
        norm_cfg: dict | None = None,
        block_out_channels: Sequence[int] = (32, 128, 256),
    ) -> None:
        super().__init__()
        try:
            from diffusers import UNet2DModel
        except ImportError as error:
            raise ImportError(
                "UNetDenoiser is built from Hugging Face Diffusers' UNet2DModel, which cannot be "
                f'imported ({error}): pip install diffusers'
            ) from error
        num_resolutions = len(block_out_channels)
        self.stride = 2 ** (num_resolutions - 1)
        self.unet = UNet2DModel(
            in_channels=channels,
            out_channels=channels,
            block_out_channels=tuple(block_out_channels),
            down_block_types=('DownBlock2D',) * num_resolutions,
            up_block_types=('UpBlock2D',) * num_resolutions,
            # At least 4 channels in a group, as in DDPM's narrowest layers (128 in 32 groups). A
            # group of one channel would cancel the time embedding, which is added before a norm.
            norm_num_groups=max(gcd(128, *block_out_channels) // 4, 1),
            # What DDPM does and Diffusers' defaults do not.
            attention_head_dim=None,  # a single head
            flip_sin_to_cos=False,
            freq_shift=1,
            downsample_padding=0,
            norm_eps=1e-6,
        )

    def forward(self, x: Tensor, timesteps: Tensor) -> Tensor:
        """Predicts the noise in ``x``.

        Args:
            x (Tensor): Noisy feature x_t of shape (B, C, H, W), of any size: it is padded with
                zeros at the bottom and the right to a multiple of the UNet's stride.
            timesteps (Tensor): Integer timesteps t of shape (B,), or (1,) for all samples.

        Returns:
            Tensor: Predicted noise of shape (B, C, H, W).
        """
        height, width = x.shape[-2:]
        x = F.pad(x, (0, -width % self.stride, 0, -height % self.stride))
        return self.unet(x, timesteps, return_dict=False)[0][..., :height, :width]
