"""MobileNetV2 of the CRD benchmark for images of 32×32."""

from mmcv.cnn import ConvModule
from mmpretrain.models.backbones.base_backbone import BaseBackbone
from mmpretrain.models.backbones.mobilenet_v2 import InvertedResidual
from torch import Tensor, nn

from ...registry import MODELS
from .initialization import KAIMING_NORMAL


@MODELS.register_module()
class CIFARMobileNetV2(BaseBackbone):
    """MobileNetV2 of half width (Tian et al. 2020, arXiv:1910.10699, Appendix).

    Against MMPretrain's ``MobileNetV2`` of width 0.5 (Sandler et al. 2018, Table 2) it has exactly
    half of the channels instead of multiples of 8, ReLU for ReLU6, stride 1 in the second stage,
    and in the first block a 1×1 convolution in front although that expands nothing.

    Maps images (B, 3, H, W) to a tuple with the map before pooling (B, 1280, H/16, W/16).

    Args:
        init_cfg (dict | list, optional): Initialization. Defaults to the benchmark's.
    """

    # Expansion, output channels, blocks and the first block's stride of each stage.
    arch_settings = (
        (1, 8, 1, 1),
        (6, 12, 2, 1),
        (6, 16, 3, 2),
        (6, 32, 4, 2),
        (6, 48, 3, 1),
        (6, 80, 3, 2),
        (6, 160, 1, 1),
    )

    def __init__(self, init_cfg: dict | list | None = KAIMING_NORMAL) -> None:
        super().__init__(init_cfg)
        layer = dict(norm_cfg=dict(type='BN'), act_cfg=dict(type='ReLU'))
        in_channels = 16
        self.conv1 = ConvModule(3, in_channels, 3, stride=2, padding=1, **layer)
        self.layers = nn.Sequential()
        for expansion, channels, num_blocks, first_stride in self.arch_settings:
            stage = nn.Sequential()
            for i in range(num_blocks):
                stride = first_stride if i == 0 else 1
                stage.append(InvertedResidual(in_channels, channels, stride, expansion, **layer))
                in_channels = channels
            self.layers.append(stage)
        self.layers[0][0].conv.insert(0, ConvModule(16, 16, 1, **layer))
        self.conv2 = ConvModule(in_channels, 1280, 1, **layer)

    def forward(self, x: Tensor) -> tuple[Tensor]:
        return (self.conv2(self.layers(self.conv1(x))),)
