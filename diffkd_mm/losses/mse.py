"""Mean squared error, plain and weighted by the teacher's attention."""

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from ..options import NonNegativeFloat, PositiveFloat
from ..registry import MODELS


def spatial_attention(feature: Tensor, tau: float = 0.5) -> Tensor:
    """Spatial attention ``H·W·softmax(mean_c |F| / τ)`` (FGD, Yang et al. 2022, Sec. 3.1).

    Args:
        feature (Tensor): Feature of shape (B, C, H, W).
        tau (float): Temperature τ. Defaults to 0.5.

    Returns:
        Tensor: Weights of shape (B, 1, H, W) whose mean is 1.
    """
    batch, _, height, width = feature.shape
    logits = feature.float().abs().mean(dim=1).flatten(1) / tau
    return height * width * logits.softmax(dim=1).view(batch, 1, height, width)


def channel_attention(feature: Tensor, tau: float = 0.5) -> Tensor:
    """Channel attention ``C·softmax(mean_hw |F| / τ)`` (FGD, Sec. 3.1).

    Args:
        feature (Tensor): Feature of shape (B, C, H, W).
        tau (float): Temperature τ. Defaults to 0.5.

    Returns:
        Tensor: Weights of shape (B, C, 1, 1) whose mean is 1.
    """
    logits = feature.float().abs().mean(dim=(2, 3)) / tau
    return feature.size(1) * logits.softmax(dim=1)[:, :, None, None]


_ATTENTION = dict(spatial=spatial_attention, channel=channel_attention)


@MODELS.register_module()
class MSELoss(nn.Module):
    """Mean over all elements of A·(refined − target)².

    Without attention A = 1: the paper's distance for features. With it this is our reading of
    "DiffKD†", for which the paper (Sec. 4.2) gives no formula: A is FGD's attention map of the
    target, without gradient.

    .. code-block:: python

        fpn=dict(
            student='neck',
            teacher='neck',
            connector=dict(type='DiffKDConnector', student_channels=256, teacher_channels=256),
            loss=dict(type='MSELoss', loss_weight=5.0),  # DiffKD†: attention='spatial'
        )

    Args:
        attention (str, optional): ``'spatial'`` or ``'channel'``. Defaults to None.
        tau (float): Temperature of the attention. Defaults to 0.5.
        loss_weight (float): Weight of the loss. Defaults to 1.0.

    Raises:
        ValueError: If the attention is unknown.
    """

    def __init__(
        self,
        attention: Literal['spatial', 'channel'] | None = None,
        tau: PositiveFloat = 0.5,
        loss_weight: NonNegativeFloat = 1.0,
    ) -> None:
        super().__init__()
        if attention is not None and attention not in _ATTENTION:
            raise ValueError(f"attention={attention!r} must be None, 'spatial' or 'channel'.")
        self.attention = attention
        self.dims = None if attention is None else (4,)
        self.tau = tau
        self.loss_weight = loss_weight

    def forward(self, refined: Tensor, target: Tensor) -> Tensor:
        """Compares two tensors of the same shape; (B, C, H, W) if there is attention."""
        refined, target = refined.float(), target.float().detach()
        if self.attention is None:
            # The gradient's memory follows the order of the dimensions, not that of the memory of
            # channels-last maps: so the dimensions are put into that order.
            refined, target = refined.movedim(1, -1), target.movedim(1, -1)
            return self.loss_weight * F.mse_loss(refined, target)
        weight = _ATTENTION[self.attention](target, self.tau)
        return self.loss_weight * (weight * (refined - target).square()).mean()
