"""The old import path of :mod:`diffkd_mm.taps`."""

from ..taps import blank_image, outputs, run_to_taps

__all__ = ['blank_image', 'outputs', 'run_to_taps']
