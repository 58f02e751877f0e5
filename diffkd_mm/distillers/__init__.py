"""The distiller and its parts."""

from .balance import LossBalance
from .distiller import Distiller
from .looking import (
    features_of,
    images_of,
    points_to_look_at,
    record_noise_weights,
    tap_both,
)
from .point import DistillationPoint
from .point_options import PointOptions
from .teacher import FrozenTeacher

__all__ = [
    'DistillationPoint',
    'Distiller',
    'FrozenTeacher',
    'LossBalance',
    'PointOptions',
    'features_of',
    'images_of',
    'points_to_look_at',
    'record_noise_weights',
    'tap_both',
]
