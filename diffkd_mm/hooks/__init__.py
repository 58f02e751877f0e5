"""Hooks beside training."""

from .unconverted import UnconvertedCheckpointHook
from .warm_start import WarmStartHook

__all__ = ['UnconvertedCheckpointHook', 'WarmStartHook']
