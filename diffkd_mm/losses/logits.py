"""Distances between class scores: Kullback-Leibler divergence and DIST."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from ..errors import DistillationError
from ..options import NonNegativeFloat, PositiveFloat
from ..registry import MODELS


def _as_samples(logits: Tensor) -> Tensor:
    """(B, K) as it is, maps (B, K, H, W) as (B·H·W, K): every pixel is a sample. In float32."""
    if logits.size(1) == 1:  # as of a binary segmentation with a sigmoid
        raise DistillationError(
            'the scores are of a single class, over which a softmax is always 1. Compare them by '
            'MSELoss, as features, or by CWDLoss, as maps.'
        )
    return logits.float().movedim(1, -1).flatten(0, -2)


@MODELS.register_module()
class KLDivLoss(nn.Module):
    """τ²·KL(teacher ‖ student), mean over samples (Hinton et al. 2015, Sec. 2).

    .. code-block:: python

        logits=dict(
            student='head.fc',
            teacher='head.fc',
            loss=dict(type='KLDivLoss', tau=4.0, loss_weight=0.9),
        )

    Args:
        tau (float): Temperature τ. Defaults to 1.0.
        loss_weight (float): Weight of the loss. Defaults to 1.0.

    Raises:
        DistillationError: When it is called with scores of a single class.
    """

    dims = (2, 4)

    def __init__(self, tau: PositiveFloat = 1.0, loss_weight: NonNegativeFloat = 1.0) -> None:
        super().__init__()
        self.tau = tau
        self.loss_weight = loss_weight

    def forward(self, refined: Tensor, target: Tensor) -> Tensor:
        """Compares logits of shape (B, K) or (B, K, H, W)."""
        student = F.log_softmax(_as_samples(refined) / self.tau, dim=1)
        teacher = F.log_softmax(_as_samples(target.detach()) / self.tau, dim=1)
        divergence = F.kl_div(student, teacher, reduction='batchmean', log_target=True)
        return self.loss_weight * self.tau**2 * divergence


class _Correlation(torch.autograd.Function):
    """Keeps the arguments for the backward pass where autograd would keep their centred copies."""

    @staticmethod
    def forward(ctx, x: Tensor, y: Tensor, eps: float) -> Tensor:
        x_mean, y_mean = (z.mean(dim=-1, keepdim=True) for z in (x, y))
        x_centred, y_centred = x - x_mean, y - y_mean
        x_norm, y_norm = (z.norm(dim=-1, keepdim=True) for z in (x_centred, y_centred))
        scale = x_norm * y_norm + eps
        correlation = x_centred.mul_(y_centred).sum(dim=-1, keepdim=True) / scale
        ctx.save_for_backward(x, y, x_mean, y_mean, x_norm, y_norm, scale, correlation)
        return correlation.squeeze(-1)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple:
        x, y, x_mean, y_mean, x_norm, y_norm, scale, correlation = ctx.saved_tensors
        grad = grad.unsqueeze(-1) / scale
        # As that of a norm, the gradient is 0 where all values are equal.
        shrink = grad * correlation * y_norm / x_norm.clamp(min=torch.finfo(x.dtype).tiny)
        return ((y - y_mean) * grad).sub_((x - x_mean).mul_(shrink)), None, None


def pearson_correlation(x: Tensor, y: Tensor, eps: float = 1e-8) -> Tensor:
    """Pearson correlation along the last axis.

    Args:
        x (Tensor): Values of shape (..., N).
        y (Tensor): Values of the same shape, taken as constants: no gradient reaches them.
        eps (float): Added to the product of the norms. Defaults to 1e-8.

    Returns:
        Tensor: Correlations of shape (...).
    """
    return _Correlation.apply(x, y, eps)


@MODELS.register_module()
class DISTLoss(nn.Module):
    """DIST (Huang et al. 2022): correlations between and within classes, times τ².

    τ²·(β·(1 − mean over samples of the correlation over classes)
    + γ·(1 − mean over classes of the correlation over samples)) of the softmax scores. Of two
    classes the first correlation is 1 or −1, whatever their scores: that term teaches nothing then.

    .. code-block:: python

        logits=dict(
            student='decode_head.conv_seg',
            teacher='decode_head.conv_seg',
            loss=dict(type='DISTLoss'),
        )

    Args:
        beta (float): Weight β of the inter-class term. Defaults to 1.0.
        gamma (float): Weight γ of the intra-class term. Defaults to 1.0.
        tau (float): Temperature τ. Defaults to 1.0.
        loss_weight (float): Weight of the loss. Defaults to 1.0.

    Raises:
        DistillationError: When it is called with scores of a single class.
    """

    dims = (2, 4)

    def __init__(
        self,
        beta: NonNegativeFloat = 1.0,
        gamma: NonNegativeFloat = 1.0,
        tau: PositiveFloat = 1.0,
        loss_weight: NonNegativeFloat = 1.0,
    ) -> None:
        super().__init__()
        self.beta = beta
        self.gamma = gamma
        self.tau = tau
        self.loss_weight = loss_weight

    def forward(self, refined: Tensor, target: Tensor) -> Tensor:
        """Compares logits of shape (B, K) or (B, K, H, W)."""
        student = (_as_samples(refined) / self.tau).softmax(dim=1)
        teacher = (_as_samples(target.detach()) / self.tau).softmax(dim=1)
        inter = 1 - pearson_correlation(student, teacher).mean()
        intra = 1 - pearson_correlation(student.t(), teacher.t()).mean()
        return self.loss_weight * self.tau**2 * (self.beta * inter + self.gamma * intra)
