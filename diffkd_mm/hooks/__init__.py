"""Hooks beside training."""

from .checkpoint import CheckpointHook
from .warm_start import WarmStartHook

__all__ = ['CheckpointHook', 'WarmStartHook']
