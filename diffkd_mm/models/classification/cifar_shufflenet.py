"""ShuffleNets of the CRD benchmark for images of 32×32."""

import torch
import torch.nn.functional as F
from mmcv.cnn import ConvModule
from mmpretrain.models.backbones import ShuffleNetV2
from mmpretrain.models.backbones.base_backbone import BaseBackbone
from mmpretrain.models.utils import channel_shuffle
from torch import Tensor, nn

from ...registry import MODELS
from .initialization import PYTORCH_DEFAULT


class ShuffleUnit(nn.Module):
    """Unit of ShuffleNetV1 (Zhang et al. 2018, arXiv:1707.01083, Fig. 2), as in CRD.

    MMPretrain's ``ShuffleUnit`` follows the paper. This one has a ReLU after the depthwise
    convolution too, hidden channels by what it adds to its input, the pooled input last, and
    shuffles by the groups of its first convolution, hence not at all where these are 1.

    Maps (B, in_channels, H, W) to (B, channels, H/stride, W/stride).

    Args:
        in_channels (int): Channels of the input.
        channels (int): Channels of the output. With ``stride=1`` the same.
        stride (int): 1, or 2 for the unit that concatenates.
        first_groups (int): Groups of the first 1×1 convolution.
        groups (int): Groups of the last 1×1 convolution.
    """

    def __init__(
        self, in_channels: int, channels: int, stride: int, first_groups: int, groups: int
    ) -> None:
        super().__init__()
        self.stride = stride
        self.first_groups = first_groups
        new_channels = channels - in_channels if stride == 2 else channels
        hidden = new_channels // 4
        norm_cfg = dict(type='BN')
        self.compress = ConvModule(in_channels, hidden, 1, groups=first_groups, norm_cfg=norm_cfg)
        self.depthwise = ConvModule(
            hidden, hidden, 3, stride, padding=1, groups=hidden, norm_cfg=norm_cfg
        )
        self.expand = ConvModule(
            hidden, new_channels, 1, groups=groups, norm_cfg=norm_cfg, act_cfg=None
        )

    def forward(self, x: Tensor) -> Tensor:
        out = channel_shuffle(self.compress(x), self.first_groups)
        out = self.expand(self.depthwise(out))
        if self.stride == 2:
            return torch.cat([out, F.avg_pool2d(x, 3, stride=2, padding=1)], dim=1).relu()
        return (out + x).relu()


@MODELS.register_module()
class CIFARShuffleNetV1(BaseBackbone):
    """ShuffleNetV1 of width 1 and 3 groups (Tian et al. 2020, arXiv:1910.10699, Appendix).

    The first convolution is 1×1 of stride 1, and no pooling follows it.

    Maps images (B, 3, H, W) to a tuple with the map before pooling (B, 960, H/8, W/8).

    Args:
        init_cfg (dict | list, optional): Initialization. Defaults to PyTorch's own, the
            benchmark's.
    """

    def __init__(self, init_cfg: dict | list | None = PYTORCH_DEFAULT) -> None:
        super().__init__(init_cfg)
        groups, in_channels = 3, 24
        self.conv1 = ConvModule(3, in_channels, 1, norm_cfg=dict(type='BN'))
        self.layers = nn.Sequential()
        for channels, num_units in ((240, 4), (480, 8), (960, 4)):
            stage = nn.Sequential()
            for i in range(num_units):
                stride = 2 if i == 0 else 1
                first_groups = 1 if in_channels == 24 else groups
                stage.append(ShuffleUnit(in_channels, channels, stride, first_groups, groups))
                in_channels = channels
            self.layers.append(stage)

    def forward(self, x: Tensor) -> tuple[Tensor]:
        return (self.layers(self.conv1(x)),)


@MODELS.register_module()
class CIFARShuffleNetV2(ShuffleNetV2):
    """MMPretrain's ``ShuffleNetV2`` with the stem of the CRD benchmark.

    As in Tian et al. (2020, arXiv:1910.10699, Appendix), of width 1: the first convolution is 1×1
    of stride 1, and no pooling follows it.

    Maps images (B, 3, H, W) to a tuple with the map before pooling (B, 1024, H/8, W/8).

    Args:
        init_cfg (dict | list, optional): Initialization. Defaults to PyTorch's own, the
            benchmark's.
        **kwargs: Arguments of MMPretrain's ``ShuffleNetV2``, by name.
    """

    def __init__(self, init_cfg: dict | list | None = PYTORCH_DEFAULT, **kwargs) -> None:
        super().__init__(init_cfg=init_cfg, **kwargs)
        self.conv1 = ConvModule(3, 24, 1, norm_cfg=dict(type='BN'))
        self.maxpool = nn.Identity()

    def init_weights(self) -> None:
        """Initializes as ``init_cfg`` says, without what the parent adds to that."""
        super(ShuffleNetV2, self).init_weights()
