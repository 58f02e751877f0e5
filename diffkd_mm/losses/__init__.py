"""Distillation losses: distances between refined student and target."""

from .logits import DISTLoss, KLDivLoss, pearson_correlation
from .mse import MSELoss, channel_attention, spatial_attention

__all__ = [
    'DISTLoss',
    'KLDivLoss',
    'MSELoss',
    'channel_attention',
    'pearson_correlation',
    'spatial_attention',
]
