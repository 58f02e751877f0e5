"""Networks that the papers use and OpenMMLab lacks, registered beside it."""

from .cirkd import CirkdWeights, convert_cirkd, is_cirkd

__all__ = ['CirkdWeights', 'convert_cirkd', 'is_cirkd']

try:
    import mmseg.models  # noqa: F401
except (ImportError, AssertionError):
    # Missing, or not made for the installed MMCV: detection does without it, and a segmentation
    # config imports MMSegmentation itself and so shows the reason.
    pass
else:
    from .decode_heads import DeepLabV3Head, ElementDropoutFCNHead, ElementDropoutPSPHead
    from .dilated_backbones import DilatedMobileNetV2, DilatedResNetV1c

    __all__ += [
        'DeepLabV3Head',
        'DilatedMobileNetV2',
        'DilatedResNetV1c',
        'ElementDropoutFCNHead',
        'ElementDropoutPSPHead',
    ]
