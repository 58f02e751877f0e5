"""The distiller and its parts."""

from .balance import LossBalance
from .distiller import Distiller
from .point import DistillationPoint
from .point_options import PointOptions
from .teacher import FrozenTeacher

__all__ = ['DistillationPoint', 'Distiller', 'FrozenTeacher', 'LossBalance', 'PointOptions']
