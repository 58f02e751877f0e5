"""Drawings of what a distillation does to features, from tensors alone."""

from .features import draw_features
from .figures import pixels, save
from .noise_weights import draw_noise_weights
from .saliency import draw_saliency, saliency
from .scores import draw_scores

__all__ = [
    'draw_features',
    'draw_noise_weights',
    'draw_saliency',
    'draw_scores',
    'pixels',
    'saliency',
    'save',
]
