"""Heads of CIRKD's networks (DiffKD, Table 6), where MMSegmentation's compute something else."""

from mmcv.cnn import ConvModule
from mmseg.models.decode_heads import ASPPHead, FCNHead, PSPHead
from torch import nn

from ...registry import MODELS


class _ElementDropout:
    """Drops single elements before the classifier, where MMSegmentation drops whole channels."""

    def __init__(self, **kwargs) -> None:
        super().__init__(**kwargs)
        if self.dropout is not None:
            self.dropout = nn.Dropout(self.dropout_ratio)


@MODELS.register_module()
class ElementDropoutFCNHead(_ElementDropout, FCNHead):
    """MMSegmentation's ``FCNHead`` with element-wise dropout; takes its arguments by name."""


@MODELS.register_module()
class ElementDropoutPSPHead(_ElementDropout, PSPHead):
    """MMSegmentation's ``PSPHead`` with element-wise dropout; takes its arguments by name."""


@MODELS.register_module()
class DeepLabV3Head(_ElementDropout, ASPPHead):
    """DeepLabV3's head with its projection (Chen et al. 2017, Sec. 3.3), as in CIRKD.

    Image pooling, a 1×1 and three dilated 3×3 branches of c channels each; then a 1×1 projection
    5c → c with dropout and a 3×3 convolution c → c. MMSegmentation's ``ASPPHead`` goes from 5c to
    c by the 3×3 convolution at once.

    Maps a list of features to logits (B, num_classes, H, W) of the size of the chosen feature.

    Args:
        dilations (tuple[int]): Dilations of the branches; 1 stands for the 1×1 convolution.
            Defaults to (1, 12, 24, 36), for stride 8.
        projection_dropout_ratio (float): Element-wise dropout after the projection. Defaults to
            0.5.
        **kwargs: Arguments of MMSegmentation's ``BaseDecodeHead``, by name: ``in_channels``,
            ``channels`` (c), ``num_classes``, ``dropout_ratio`` (0.1, element-wise, before the
            classifier), ...
    """

    def __init__(
        self,
        dilations: tuple[int, ...] = (1, 12, 24, 36),
        projection_dropout_ratio: float = 0.5,
        **kwargs,
    ) -> None:
        super().__init__(dilations=dilations, **kwargs)
        layers = dict(conv_cfg=self.conv_cfg, norm_cfg=self.norm_cfg, act_cfg=self.act_cfg)
        # Takes the place of ASPPHead's own, so that its forward serves here as well.
        self.bottleneck = nn.Sequential(
            ConvModule((len(dilations) + 1) * self.channels, self.channels, 1, **layers),
            nn.Dropout(projection_dropout_ratio),
            ConvModule(self.channels, self.channels, 3, padding=1, **layers),
        )
