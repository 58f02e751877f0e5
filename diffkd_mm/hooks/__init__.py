"""Hooks beside training."""

from .folding import FoldBranchesHook, RefuseUnfoldedHook
from .warm_start import WarmStartHook

__all__ = ['FoldBranchesHook', 'RefuseUnfoldedHook', 'WarmStartHook']
