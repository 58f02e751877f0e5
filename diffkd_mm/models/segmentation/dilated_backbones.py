"""Backbones at stride 8 with the dilations of CIRKD's networks (DiffKD, Table 6)."""

from mmseg.models.backbones import MobileNetV2, ResNetV1c
from mmseg.models.backbones.resnet import BasicBlock
from mmseg.models.utils import ResLayer
from torch import nn

from ...checkpoints import refuse_cirkd
from ...registry import MODELS


def _dilate(conv: nn.Conv2d, dilation: int) -> None:
    """Dilates a 3×3 convolution and pads it so that the size of the map stays."""
    conv.dilation = conv.padding = (dilation, dilation)


class _Converted(nn.Module):
    """Refuses weights with CIRKD's own names, which ``init_cfg`` would pass over with a warning."""

    def _load_from_state_dict(self, state_dict, prefix, *args) -> None:
        names = {name.removeprefix(prefix) for name in state_dict if name.startswith(prefix)}
        refuse_cirkd(names, 'the checkpoint of the backbone')
        super()._load_from_state_dict(state_dict, prefix, *args)


@MODELS.register_module()
class DilatedResNetV1c(_Converted, ResNetV1c):
    """MMSegmentation's ``ResNetV1c`` whose basic blocks dilate both 3×3 convolutions.

    MMSegmentation dilates the first one of a basic block alone. Here the second one has the
    dilation of its stage, also in the first block, whose first convolution ``contract_dilation``
    leaves at half of it: d/2 and d, then d and d. Parameters are the same. Bottlenecks (depth 50
    and more) have one 3×3 convolution, so ``ResNetV1c`` itself serves for them.

    The networks of Table 6 have ``stem_channels=128``, ``strides=(1, 2, 1, 1)``,
    ``dilations=(1, 1, 2, 4)`` and ``contract_dilation=True``. Takes the arguments of
    ``ResNetV1c``; returns a tuple of maps, one for each of ``out_indices``.
    """

    def make_res_layer(self, **kwargs) -> ResLayer:
        """Builds a stage from the arguments of ``ResLayer``."""
        stage = super().make_res_layer(**kwargs)
        for block in stage:
            if isinstance(block, BasicBlock):
                _dilate(block.conv2, kwargs['dilation'])
        return stage


@MODELS.register_module()
class DilatedMobileNetV2(_Converted, MobileNetV2):
    """MMSegmentation's ``MobileNetV2`` whose blocks are all dilated, not a stage's first alone.

    The first block of a stage has the dilation of the stage before, with which its input was
    made; all others have their own stage's. With the defaults, stride 8, blocks 1-17 have the
    dilations 1 (1-7), 2 (8-14) and 4 (15-17): where dilation took the place of a stride of 2, in
    blocks 7 and 14, the depthwise convolution has half the dilation of those that follow.

    Args:
        strides (tuple[int]): Stride of each of the seven stages.
            Defaults to (1, 2, 2, 1, 1, 1, 1).
        dilations (tuple[int]): Dilation of each stage. Defaults to (1, 1, 1, 2, 2, 4, 4).
        **kwargs: Arguments of ``MobileNetV2``. By default it returns a tuple of four maps, the
            last one with 320 channels.
    """

    def __init__(
        self,
        strides: tuple[int, ...] = (1, 2, 2, 1, 1, 1, 1),
        dilations: tuple[int, ...] = (1, 1, 1, 2, 2, 4, 4),
        **kwargs,
    ) -> None:
        super().__init__(strides=strides, dilations=dilations, **kwargs)
        previous = 1
        for name, dilation in zip(self.layers, dilations):
            for i, block in enumerate(getattr(self, name)):
                # The last but one: only some blocks begin with an expansion.
                _dilate(block.conv[-2].conv, dilation if i > 0 else previous)
            previous = dilation
