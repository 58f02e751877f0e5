"""Distances between class scores: Kullback-Leibler divergence and DIST."""

import torch.nn.functional as F
from torch import Tensor, nn

from ..registry import MODELS


def _as_samples(logits: Tensor) -> Tensor:
    """(B, K) as it is, maps (B, K, H, W) as (B·H·W, K): every pixel is a sample. In float32."""
    return logits.float().movedim(1, -1).flatten(0, -2)


@MODELS.register_module()
class KLDivLoss(nn.Module):
    """τ²·KL(teacher ‖ student), mean over samples (Hinton et al. 2015, Sec. 2).

    Args:
        tau (float): Temperature τ. Defaults to 1.0.
        loss_weight (float): Weight of the loss. Defaults to 1.0.
    """

    def __init__(self, tau: float = 1.0, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.tau = tau
        self.loss_weight = loss_weight

    def forward(self, refined: Tensor, target: Tensor) -> Tensor:
        """Compares logits of shape (B, K) or (B, K, H, W)."""
        student = F.log_softmax(_as_samples(refined) / self.tau, dim=1)
        teacher = F.log_softmax(_as_samples(target.detach()) / self.tau, dim=1)
        divergence = F.kl_div(student, teacher, reduction='batchmean', log_target=True)
        return self.loss_weight * self.tau**2 * divergence


def pearson_correlation(x: Tensor, y: Tensor, eps: float = 1e-8) -> Tensor:
    """Pearson correlation along the last axis.

    Args:
        x (Tensor): Values of shape (..., N).
        y (Tensor): Values of the same shape.
        eps (float): Added to the product of the norms. Defaults to 1e-8.

    Returns:
        Tensor: Correlations of shape (...).
    """
    x = x - x.mean(dim=-1, keepdim=True)
    y = y - y.mean(dim=-1, keepdim=True)
    return (x * y).sum(-1) / (x.norm(dim=-1) * y.norm(dim=-1) + eps)


@MODELS.register_module()
class DISTLoss(nn.Module):
    """DIST (Huang et al. 2022): correlations between and within classes, times τ².

    τ²·(β·(1 − mean over samples of the correlation over classes)
    + γ·(1 − mean over classes of the correlation over samples)) of the softmax scores.

    Args:
        beta (float): Weight β of the inter-class term. Defaults to 1.0.
        gamma (float): Weight γ of the intra-class term. Defaults to 1.0.
        tau (float): Temperature τ. Defaults to 1.0.
        loss_weight (float): Weight of the loss. Defaults to 1.0.
    """

    def __init__(
        self, beta: float = 1.0, gamma: float = 1.0, tau: float = 1.0, loss_weight: float = 1.0
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
