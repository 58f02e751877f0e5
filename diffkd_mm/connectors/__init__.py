"""Connectors: from a student tensor and a teacher tensor to a pair that is compared."""

from .base import Connector
from .conv import ConvConnector
from .deep_projector import DeepProjectorConnector
from .diffkd import DiffKDConnector
from .guidance import ScoreGuidanceConnector

__all__ = [
    'Connector',
    'ConvConnector',
    'DeepProjectorConnector',
    'DiffKDConnector',
    'ScoreGuidanceConnector',
]
