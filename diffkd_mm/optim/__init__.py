"""What the training strategies of classification need and MMEngine lacks."""

from .rmsprop_tf import RMSpropTF
from .schedulers import ExponentialLR

__all__ = ['ExponentialLR', 'RMSpropTF']
