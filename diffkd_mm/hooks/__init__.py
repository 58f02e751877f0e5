"""Hooks beside training."""

from .warm_start import WarmStartHook

__all__ = ['WarmStartHook']
