"""Networks of segmentation; needs MMSegmentation."""

from .decode_heads import DeepLabV3Head, ElementDropoutFCNHead, ElementDropoutPSPHead
from .dilated_backbones import DilatedMobileNetV2, DilatedResNetV1c

__all__ = [
    'DeepLabV3Head',
    'DilatedMobileNetV2',
    'DilatedResNetV1c',
    'ElementDropoutFCNHead',
    'ElementDropoutPSPHead',
]
