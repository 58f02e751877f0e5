"""Distillation losses: distances between refined student and target."""

from .cirkd import CIRKDLoss
from .cosine import CosineLoss
from .cwd import CWDLoss
from .fgd import FGDLoss
from .logits import DISTLoss, KLDivLoss, pearson_correlation
from .maskd import MasKDLoss, dice_coefficient
from .mse import MSELoss, channel_attention, spatial_attention
from .pkd import PKDLoss
from .wasserstein import WassersteinLoss

__all__ = [
    'CIRKDLoss',
    'CWDLoss',
    'CosineLoss',
    'DISTLoss',
    'FGDLoss',
    'KLDivLoss',
    'MSELoss',
    'MasKDLoss',
    'PKDLoss',
    'WassersteinLoss',
    'channel_attention',
    'dice_coefficient',
    'pearson_correlation',
    'spatial_attention',
]
