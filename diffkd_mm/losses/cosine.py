"""Cosine distance of the vectors at every position."""

import torch.nn.functional as F
from torch import Tensor, nn

from ..options import NonNegativeFloat
from ..registry import MODELS


@MODELS.register_module()
class CosineLoss(nn.Module):
    """1 − cos(refined, target) over the channels, mean over samples and positions.

    The length of a vector does not matter, its direction alone does.

    .. code-block:: python

        fpn=dict(
            student='neck',
            teacher='neck',
            connector=dict(type='DiffKDConnector', student_channels=256, teacher_channels=256),
            loss=dict(type='CosineLoss', loss_weight=5.0),
        )

    Args:
        loss_weight (float): Weight of the loss. Defaults to 1.0.
    """

    dims = (2, 4)

    def __init__(self, loss_weight: NonNegativeFloat = 1.0) -> None:
        super().__init__()
        self.loss_weight = loss_weight

    def forward(self, refined: Tensor, target: Tensor) -> Tensor:
        """Compares tensors of shape (B, C) or (B, C, H, W)."""
        cosine = F.cosine_similarity(refined.float(), target.detach().float(), dim=1)
        return self.loss_weight * (1 - cosine).mean()
