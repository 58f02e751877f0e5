"""PKD: correlation of feature maps."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..options import NonNegativeFloat
from ..registry import MODELS


def standardize_channels(feature: Tensor, eps: float = 1e-8) -> Tensor:
    """Gives every channel zero mean and unit variance over batch and positions.

    Args:
        feature (Tensor): Feature of shape (B, C, H, W).
        eps (float): Added to the variance, so that constant channels become zero.
            Defaults to 1e-8.

    Returns:
        Tensor: Feature of the same shape.
    """
    variance, mean = torch.var_mean(feature, dim=(0, 2, 3), correction=0, keepdim=True)
    return (feature - mean) * (variance + eps).rsqrt()


@MODELS.register_module()
class PKDLoss(nn.Module):
    """Half the mean squared error of standardised features (PKD, Cao et al. 2022, Sec. 3).

    That is 1 − r, the mean over the channels, where r is Pearson's correlation of a channel of
    the student with that of the teacher over all samples and positions of the batch (on each
    device by itself). Scale and offset of a channel do not matter: student and teacher need no
    connector if their channels are equal in number.

    .. code-block:: python

        fpn=dict(student='neck', teacher='neck', loss=dict(type='PKDLoss', loss_weight=10.0))

    Args:
        loss_weight (float): Weight of the loss. Defaults to 1.0.
    """

    dims = (4,)  # maps alone

    def __init__(self, loss_weight: NonNegativeFloat = 1.0) -> None:
        super().__init__()
        self.loss_weight = loss_weight

    def forward(self, refined: Tensor, target: Tensor) -> Tensor:
        """Compares features of shape (B, C, H, W)."""
        student = standardize_channels(refined.float())
        teacher = standardize_channels(target.detach().float())
        return self.loss_weight * F.mse_loss(student, teacher) / 2
