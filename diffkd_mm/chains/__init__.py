"""Chains: from the branches of a student's layer to a teacher's feature, step by step."""

from .average import AverageChain
from .kdiffusion import KDiffusionChain

__all__ = ['AverageChain', 'KDiffusionChain']
