"""Hooks beside training."""

from .checkpoint import CheckpointHook
from .folding import FoldBranchesHook, RefuseUnfoldedHook
from .pictures import PicturesHook
from .unconverted import UnconvertedCheckpointHook
from .warm_start import WarmStartHook

__all__ = [
    'CheckpointHook',
    'FoldBranchesHook',
    'PicturesHook',
    'RefuseUnfoldedHook',
    'UnconvertedCheckpointHook',
    'WarmStartHook',
]
