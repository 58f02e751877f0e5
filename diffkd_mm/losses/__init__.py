"""Distillation losses: distances between refined student and target."""

from .cirkd import CIRKDLoss
from .cwd import CWDLoss
from .fgd import FGDLoss
from .logits import DISTLoss, KLDivLoss, pearson_correlation
from .maskd import MasKDLoss, dice_coefficient
from .mse import MSELoss, channel_attention, spatial_attention
from .pkd import PKDLoss

__all__ = [
    'CIRKDLoss',
    'CWDLoss',
    'DISTLoss',
    'FGDLoss',
    'KLDivLoss',
    'MSELoss',
    'MasKDLoss',
    'PKDLoss',
    'channel_attention',
    'dice_coefficient',
    'pearson_correlation',
    'spatial_attention',
]
