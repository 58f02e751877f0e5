"""ResNets of the CRD benchmark for images of 32×32."""

from mmpretrain.models.backbones.resnet import BasicBlock
from mmpretrain.models.backbones.resnet_cifar import ResNet_CIFAR

from ...registry import MODELS


@MODELS.register_module()
class CIFARResNet(ResNet_CIFAR):
    """ResNet of three stages of basic blocks for CIFAR (He et al. 2016, Sec. 4.2).

    ResNet-20 and -56 of the CRD benchmark (Tian et al. 2020, arXiv:1910.10699, Appendix) have
    stages of 16, 32 and 64 channels; ResNet-8x4 and -32x4, "x4" for the width, have
    ``stem_channels=32`` and ``base_channels=64``: 64, 128 and 256. Shortcuts to another size are
    1×1 convolutions, where the original pads with zeros.

    Maps images (B, 3, H, W) to a tuple with the map before pooling
    (B, 4 ``base_channels``, H/4, W/4).

    Args:
        depth (int): 6n + 2 for n blocks in each stage, n up to 200.
        stem_channels (int): Channels of the first convolution. Defaults to 16.
        base_channels (int): Channels of the first stage. Defaults to 16.
        **kwargs: Arguments of MMPretrain's ``ResNet_CIFAR`` by name, such as ``norm_cfg``.

    Raises:
        KeyError: If there is no such depth.
    """

    arch_settings = {6 * n + 2: (BasicBlock, (n, n, n)) for n in range(1, 201)}

    def __init__(
        self, depth: int, stem_channels: int = 16, base_channels: int = 16, **kwargs
    ) -> None:
        settings = dict(
            num_stages=3,
            strides=(1, 2, 2),
            dilations=(1, 1, 1),
            out_indices=(2,),
            zero_init_residual=False,
        )
        super().__init__(
            depth,
            stem_channels=stem_channels,
            base_channels=base_channels,
            **{**settings, **kwargs},
        )
