"""What the training strategies need and MMEngine lacks."""

from .amp import CPUAmpOptimWrapper
from .rmsprop_tf import RMSpropTF
from .schedulers import StepLR

__all__ = ['CPUAmpOptimWrapper', 'StepLR', 'RMSpropTF']
