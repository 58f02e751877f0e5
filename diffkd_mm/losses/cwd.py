"""Channel-wise distillation: where in the image each channel is active."""

import torch.nn.functional as F
from torch import Tensor, nn

from ..options import NonNegativeFloat, PositiveFloat
from ..registry import MODELS


@MODELS.register_module()
class CWDLoss(nn.Module):
    """τ²/C · Σ_c KL(teacher_c ‖ student_c), mean over samples (CWD, Shu et al. 2021, Sec. 3).

    Every channel is a distribution over the positions: softmax of its H·W values over τ.

    .. code-block:: python

        logits=dict(
            student='decode_head.conv_seg',
            teacher='decode_head.conv_seg',
            loss=dict(type='CWDLoss', tau=4.0, loss_weight=3.0),
        )

    Args:
        tau (float): Temperature τ. Defaults to 1.0.
        loss_weight (float): Weight of the loss. Defaults to 1.0.
    """

    dims = (4,)  # maps alone

    def __init__(self, tau: PositiveFloat = 1.0, loss_weight: NonNegativeFloat = 1.0) -> None:
        super().__init__()
        self.tau = tau
        self.loss_weight = loss_weight

    def forward(self, refined: Tensor, target: Tensor) -> Tensor:
        """Compares features or logits of shape (B, C, H, W)."""
        student = F.log_softmax(refined.float().flatten(2) / self.tau, dim=2)
        teacher = F.log_softmax(target.detach().float().flatten(2) / self.tau, dim=2)
        divergence = F.kl_div(student, teacher, reduction='sum', log_target=True)
        return self.loss_weight * self.tau**2 * divergence / (refined.size(0) * refined.size(1))
