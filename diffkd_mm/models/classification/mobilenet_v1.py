"""MobileNetV1, the student of DiffKD's Tables 2, 7 and 8, which MMPretrain lacks."""

from mmcv.cnn import ConvModule, DepthwiseSeparableConvModule
from mmpretrain.models.backbones.base_backbone import BaseBackbone
from torch import Tensor, nn

from ...registry import MODELS
from .initialization import KAIMING_NORMAL


@MODELS.register_module()
class MobileNetV1(BaseBackbone):
    """MobileNetV1 of width 1 (Howard et al. 2017, arXiv:1704.04861, Table 1).

    A 3×3 convolution to 32 channels and 13 depthwise separable ones, all with BN and ReLU.
    With a linear classifier of 1000 classes 4,231,976 parameters.

    Maps images (B, 3, H, W) to a tuple with the map before pooling (B, 1024, H/32, W/32).

    Args:
        act_cfg (dict, optional): Activation. Defaults to ``dict(type='ReLU')``; timm's weights are
            trained with ``dict(type='ReLU6')``.
        init_cfg (dict | list, optional): Initialization. Defaults to MMPretrain's for MobileNetV2.
    """

    # Output channels and stride of each depthwise separable convolution.
    arch_settings = (
        (64, 1),
        (128, 2),
        (128, 1),
        (256, 2),
        (256, 1),
        (512, 2),
        *[(512, 1)] * 5,
        (1024, 2),
        (1024, 1),  # stride 2 in the table, which contradicts its own map of 7×7
    )

    def __init__(
        self, act_cfg: dict | None = None, init_cfg: dict | list | None = KAIMING_NORMAL
    ) -> None:
        super().__init__(init_cfg)
        layer = dict(norm_cfg=dict(type='BN'), act_cfg=act_cfg or dict(type='ReLU'))
        self.conv1 = ConvModule(3, 32, 3, stride=2, padding=1, **layer)
        self.layers = nn.Sequential()
        in_channels = 32
        for channels, stride in self.arch_settings:
            self.layers.append(
                DepthwiseSeparableConvModule(
                    in_channels, channels, 3, stride=stride, padding=1, **layer
                )
            )
            in_channels = channels

    def forward(self, x: Tensor) -> tuple[Tensor]:
        return (self.layers(self.conv1(x)),)
