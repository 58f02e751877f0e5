"""Hooks beside training."""

from .checkpoint import CheckpointHook
from .unconverted import UnconvertedCheckpointHook
from .warm_start import WarmStartHook

__all__ = ['CheckpointHook', 'UnconvertedCheckpointHook', 'WarmStartHook']
