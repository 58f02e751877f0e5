"""Wasserstein distance of the values of each channel, wherever in the image they are."""

import torch.nn.functional as F
from torch import Tensor, nn

from ..options import NonNegativeFloat
from ..registry import MODELS


@MODELS.register_module()
class WassersteinLoss(nn.Module):
    """Squared 2-Wasserstein distance of each channel's values, mean over samples and channels.

    The H·W values of a channel of a sample are a distribution on the line. Between two such, of
    equally many values each, the best transport takes the i-th smallest to the i-th smallest
    (Peyré and Cuturi 2019, Remark 2.28): the distance is the mean squared error of the sorted
    values. At most that of the values as they are, it does not ask where in the image they lie.

    .. code-block:: python

        fpn=dict(
            student='neck',
            teacher='neck',
            connector=dict(type='DiffKDConnector', student_channels=256, teacher_channels=256),
            loss=dict(type='WassersteinLoss', loss_weight=5.0),
        )

    Args:
        loss_weight (float): Weight of the loss. Defaults to 1.0.
    """

    dims = (4,)  # maps alone

    def __init__(self, loss_weight: NonNegativeFloat = 1.0) -> None:
        super().__init__()
        self.loss_weight = loss_weight

    def forward(self, refined: Tensor, target: Tensor) -> Tensor:
        """Compares maps of shape (B, C, H, W)."""
        refined, target = (
            x.float().flatten(2).sort(dim=2).values for x in (refined, target.detach())
        )
        return self.loss_weight * F.mse_loss(refined, target)
