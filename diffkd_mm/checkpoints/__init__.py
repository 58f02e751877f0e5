"""Checkpoints that others publish, as weights of OpenMMLab's networks and ours."""

from .cirkd import CirkdWeights, convert_cirkd, is_cirkd

__all__ = ['CirkdWeights', 'convert_cirkd', 'is_cirkd']
