"""Hooks beside training."""

from .checkpoint import CheckpointHook
from .folding import FoldBranchesHook, RefuseUnfoldedHook
from .unconverted import UnconvertedCheckpointHook
from .warm_start import WarmStartHook

__all__ = [
    'CheckpointHook',
    'FoldBranchesHook',
    'RefuseUnfoldedHook',
    'UnconvertedCheckpointHook',
    'WarmStartHook',
]
