"""Wide ResNets of the CRD benchmark for images of 32×32."""

from mmpretrain.models.backbones.base_backbone import BaseBackbone
from torch import Tensor, nn

from ...registry import MODELS
from .initialization import KAIMING_NORMAL


class PreActivationBlock(nn.Module):
    """Two 3×3 convolutions, each after BN and ReLU (Zagoruyko & Komodakis 2016, Fig. 1a).

    Where the number of channels changes, the shortcut is a 1×1 convolution of the activated
    input; elsewhere it is the input itself.

    Maps (B, in_channels, H, W) to (B, channels, H/stride, W/stride).

    Args:
        in_channels (int): Channels of the input.
        channels (int): Channels of the output.
        stride (int): Stride of the first convolution and of the shortcut.
    """

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.shortcut = None
        if in_channels != channels:
            self.shortcut = nn.Conv2d(in_channels, channels, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        activated = self.bn1(x).relu()
        out = self.conv2(self.bn2(self.conv1(activated)).relu())
        return out + (x if self.shortcut is None else self.shortcut(activated))


@MODELS.register_module()
class CIFARWideResNet(BaseBackbone):
    """Wide ResNet (Zagoruyko & Komodakis 2016, arXiv:1605.07146, Table 1), without dropout.

    WRN-40-1 and WRN-40-2 of the CRD benchmark (Tian et al. 2020, arXiv:1910.10699, Appendix).

    Maps images (B, 3, H, W) to a tuple with the map before pooling, after the last BN and ReLU
    (B, 64 ``widen_factor``, H/4, W/4).

    Args:
        depth (int): 6n + 4 for n blocks in each of the three stages.
        widen_factor (int): Channels of the stages are 16, 32 and 64 times this.
        init_cfg (dict | list, optional): Initialization. Defaults to the benchmark's.

    Raises:
        ValueError: If ``depth`` is not 6n + 4.
    """

    def __init__(
        self,
        depth: int,
        widen_factor: int,
        init_cfg: dict | list | None = KAIMING_NORMAL,
    ) -> None:
        super().__init__(init_cfg)
        num_blocks, rest = divmod(depth - 4, 6)
        if rest or num_blocks < 1:
            raise ValueError(f'depth is 6n + 4 for n blocks in each stage, but got {depth}.')
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        in_channels = 16
        stages = []
        for stride, base_channels in ((1, 16), (2, 32), (2, 64)):
            channels = base_channels * widen_factor
            first = PreActivationBlock(in_channels, channels, stride)
            others = [PreActivationBlock(channels, channels, 1) for _ in range(num_blocks - 1)]
            stages.append(nn.Sequential(first, *others))
            in_channels = channels
        self.layer1, self.layer2, self.layer3 = stages
        self.bn1 = nn.BatchNorm2d(in_channels)

    def forward(self, x: Tensor) -> tuple[Tensor]:
        x = self.layer3(self.layer2(self.layer1(self.conv1(x))))
        return (self.bn1(x).relu(),)
