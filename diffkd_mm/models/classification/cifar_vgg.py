"""VGGs of the CRD benchmark for images of 32×32."""

from mmpretrain.models.backbones import VGG
from torch import nn

from ...registry import MODELS


@MODELS.register_module()
class CIFARVGG(VGG):
    """MMPretrain's ``VGG`` with BN that halves the size of the map three times, not five.

    The VGG-8 and VGG-13 of the CRD benchmark (Tian et al. 2020, arXiv:1910.10699, Appendix) pool
    after each of the first three stages. One linear layer follows; the depth counts three.

    Maps images (B, 3, H, W) to a tuple with the map before pooling (B, 512, H/8, W/8).

    Args:
        depth (int): 8, with one convolution in each of the five stages; 11, 13, 16 or 19.
        **kwargs: Arguments of MMPretrain's ``VGG`` by name. ``norm_cfg`` defaults to BN.

    Raises:
        KeyError: If there is no such depth.
    """

    arch_settings = {8: (1, 1, 1, 1, 1), **VGG.arch_settings}

    def __init__(self, depth: int, **kwargs) -> None:
        super().__init__(depth, **{'norm_cfg': dict(type='BN'), **kwargs}, with_last_pool=False)
        _, end = self.range_sub_modules[3]
        self.features[end - 1] = nn.Identity()
