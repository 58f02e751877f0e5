"""Hooks beside training."""

from .checkpoint import CheckpointHook
from .folding import FoldBranchesHook, RefuseUnfoldedHook
from .warm_start import WarmStartHook

__all__ = ['CheckpointHook', 'FoldBranchesHook', 'RefuseUnfoldedHook', 'WarmStartHook']
