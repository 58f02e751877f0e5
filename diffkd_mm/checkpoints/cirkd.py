"""CIRKD's checkpoints, whose networks are those of DiffKD's Table 6, as weights of ours."""

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import DistillationError
from .layout import RESNETS, check_names

MOBILENETV2 = (  # blocks of each stage, output channels, expansion of the input channels
    (1, 16, 1),
    (2, 24, 6),
    (3, 32, 6),
    (4, 64, 6),
    (3, 96, 6),
    (3, 160, 6),
    (1, 320, 6),
)
HEAD_CHANNELS = {  # of the networks of the paper
    'DeepLabV3-R18': 128,
    'DeepLabV3-R101': 256,
    'DeepLabV3-MobileNetV2': 128,
    'PSPNet-R18': 128,
}
BACKBONES = ('R18', 'R101', 'MobileNetV2')
SECOND_VERSION_CHANNELS = 512
# ImageNet's classifier, and the convolution to 1280 channels that MobileNetV2 has before it.
DROPPED = re.compile(r'(pretrained\.(net\.)?)?(fc|classifier|features\.18)\.')


@dataclass
class CirkdWeights:
    """A converted checkpoint of CIRKD.

    Attributes:
        network (str): What the checkpoint is: ``'DeepLabV3-R18'``, ``'DeepLabV3-R101'``,
            ``'DeepLabV3-MobileNetV2'`` or ``'PSPNet-R18'``; for an ImageNet backbone ``'R18'``,
            ``'R101'`` or ``'MobileNetV2'``.
        state_dict (dict[str, Tensor]): Weights of the model of the config, or of its backbone.
        num_classes (int, optional): Classes of the network. None: it is a backbone.
        dropped (list[str]): Names in the checkpoint that our network has no use for.
    """

    network: str
    state_dict: dict[str, Tensor]
    num_classes: int | None
    dropped: list[str]


@dataclass
class _Layer:
    """A layer under CIRKD's name and ours, with the shape of its weight: 4 convolution, 1 norm."""

    name: str
    our_name: str
    shape: tuple[int, ...]
    bias: bool = False

    def tensors(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of its parameters and buffers."""
        if len(self.shape) == 4:
            return dict(weight=self.shape, **(dict(bias=self.shape[:1]) if self.bias else {}))
        names = ('weight', 'bias', 'running_mean', 'running_var')
        return dict.fromkeys(names, self.shape) | dict(num_batches_tracked=())


def is_cirkd(weights: Mapping[str, Tensor]) -> bool:
    """Whether a state dict has the names of CIRKD's networks (backbones alone do not count)."""
    return any(name.startswith('pretrained.') for name in weights)


def refuse_cirkd(names: Collection[str], source: str) -> None:
    """Refuses CIRKD's names, of networks and of backbones, where they would find no place.

    Args:
        names (Collection[str]): Names of tensors.
        source (str): What the message calls the checkpoint.

    Raises:
        DistillationError: If the names are CIRKD's; it names the converter.
    """
    telltales = ({'conv2.weight', 'layer1.0.conv1.weight'}, {'features.1.conv.0.weight'})
    if any(name.startswith('pretrained.') for name in names) or any(
        telltale <= set(names) for telltale in telltales
    ):
        raise DistillationError(
            f'{source} has the names of CIRKD, which find no place in this network: convert it '
            'first with tools/model_converters/cirkd2mmseg.py.'
        )


def convert_cirkd(weights: Mapping[str, Tensor], source: str) -> CirkdWeights:
    """Converts a network or an ImageNet backbone of CIRKD, so that ours computes the same.

    Args:
        weights (Mapping[str, Tensor]): State dict with CIRKD's names. Backbones have theirs
            without the prefix ``pretrained.`` of a network.
        source (str): What messages call the checkpoint, usually its path.

    Returns:
        CirkdWeights: Weights for the models of ``configs/_base_/models``, complete.

    Raises:
        DistillationError: If it is none of the networks of the paper, or a name is missing or
            left over, or a tensor has another shape.
    """
    backbone = _find_backbone(weights, source)
    head = _find_head(weights)
    network = f'{head}-{backbone}' if head else backbone
    if network not in (*HEAD_CHANNELS, *BACKBONES):
        raise DistillationError(
            f'{source!r} is {network}, which is none of the networks that can be converted: '
            f'{", ".join([*HEAD_CHANNELS, *BACKBONES])}.'
        )
    num_classes = None
    layers = list(_BACKBONE_LAYERS[backbone]())
    if head:
        classifier = 'head.block.4' if head == 'DeepLabV3' else 'head.classifier'
        channels, num_classes = _head_size(weights, classifier, network, source)
        prefix = 'pretrained.net.' if backbone == 'MobileNetV2' else 'pretrained.'
        for layer in layers:
            layer.name = prefix + layer.name
            layer.our_name = 'backbone.' + layer.our_name
        in_channels = 320 if backbone == 'MobileNetV2' else 512 if backbone == 'R18' else 2048
        layers += _HEAD_LAYERS[head](in_channels, channels, num_classes)
        if backbone != 'MobileNetV2':
            layers += _auxiliary_layers(in_channels // 2, num_classes)
    state_dict, dropped = _rename(layers, weights, f'{source!r}, a {network} of CIRKD')
    if head == 'DeepLabV3':
        # CIRKD concatenates the image pooling last, MMSegmentation first.
        projection = 'decode_head.bottleneck.0.conv.weight'
        state_dict[projection] = state_dict[projection].roll(channels, dims=1)
    return CirkdWeights(network, state_dict, num_classes, dropped)


def _find_backbone(weights: Mapping[str, Tensor], source: str) -> str:
    if any(re.match(r'(pretrained\.net\.)?features\.\d+\.', name) for name in weights):
        return 'MobileNetV2'
    blocks = [0] * 4
    convs = 0
    for name in weights:
        if match := re.match(r'(?:pretrained\.)?layer([1-4])\.(\d+)\.conv(\d)\.', name):
            stage, block, conv = map(int, match.groups())
            blocks[stage - 1] = max(blocks[stage - 1], block + 1)
            convs = max(convs, conv)
    if not convs:
        hint = ''
        if any(name.startswith('backbone.') for name in weights):
            hint = ' It has the names of MMSegmentation; has it been converted already?'
        raise DistillationError(
            f'{source!r} is no checkpoint of CIRKD: it has neither the stages of a ResNet '
            f'([pretrained.]layer1.0.conv1, ...) nor the features of a MobileNetV2.{hint}'
        )
    depth = RESNETS.get((tuple(blocks), convs))
    return f'R{depth}' if depth else f'ResNet of {blocks} blocks'


def _find_head(weights: Mapping[str, Tensor]) -> str | None:
    if any(name.startswith('head.aspp.') for name in weights):
        return 'DeepLabV3'
    if any(name.startswith('head.psp.') for name in weights):
        return 'PSPNet'
    return 'UnknownHead' if is_cirkd(weights) else None


def _head_size(
    weights: Mapping[str, Tensor], classifier: str, network: str, source: str
) -> tuple[int, int]:
    """Channels of the head, and classes; refuses a head that is not the paper's."""
    weight = weights.get(f'{classifier}.weight')
    if weight is None or weight.ndim != 4:
        raise DistillationError(f'{source!r}, a {network} of CIRKD, has no {classifier}.weight.')
    num_classes, channels = weight.shape[:2]
    if channels == HEAD_CHANNELS[network]:
        return channels, num_classes
    version = ''
    if channels == SECOND_VERSION_CHANNELS and network.startswith('DeepLabV3-R'):
        version = " of CIRKD's second version (release segv0.1 of its repository)"
    raise DistillationError(
        f'{source!r} is a {network}{version} with a head of {channels} channels. The network of '
        f'the paper has {HEAD_CHANNELS[network]}; its checkpoint is of the first version.'
    )


def _rename(
    layers: list[_Layer], weights: Mapping[str, Tensor], what: str
) -> tuple[dict[str, Tensor], list[str]]:
    """Takes the tensors of the layers; the others must be among those dropped on purpose."""
    state_dict, missing, left = {}, [], dict(weights)
    for layer in layers:
        for tensor, shape in layer.tensors().items():
            name = f'{layer.name}.{tensor}'
            if tensor == 'num_batches_tracked':  # PyTorch before 0.4.1 did not count
                left.setdefault(name, torch.tensor(0))
            if name not in left:
                missing.append(name)
                continue
            value = left.pop(name)
            if value.shape != shape:
                raise DistillationError(
                    f'{what}: {name} has shape {tuple(value.shape)} instead of {shape}.'
                )
            state_dict[f'{layer.our_name}.{tensor}'] = value
    dropped = [name for name in left if DROPPED.match(name)]
    unknown = [name for name in left if name not in dropped]
    check_names(what, missing, unknown)
    return state_dict, dropped


def _conv_norm(
    conv: tuple[str, str], norm: tuple[str, str], in_channels: int, channels: int, kernel: int
) -> list[_Layer]:
    """A convolution without bias and its norm; of each, CIRKD's name and ours."""
    return [_Layer(*conv, (channels, in_channels, kernel, kernel)), _Layer(*norm, (channels,))]


def _module(name: str, ours: str, *size: int, first: int = 0) -> list[_Layer]:
    """CIRKD's ``Sequential`` of convolution and norm, from ``first`` on, and a ``ConvModule``."""
    conv, norm = (f'{name}.{first}', f'{ours}.conv'), (f'{name}.{first + 1}', f'{ours}.bn')
    return _conv_norm(conv, norm, *size)


def _resnet_layers(blocks: tuple[int, ...], convs: int) -> Iterator[_Layer]:
    for i, size in enumerate([(3, 64, 3), (64, 64, 3), (64, 128, 3)]):
        conv, norm = (f'conv{i + 1}', f'stem.{3 * i}'), (f'bn{i + 1}', f'stem.{3 * i + 1}')
        yield from _conv_norm(conv, norm, *size)
    in_channels = 128
    for stage, num_blocks in enumerate(blocks):
        width = 64 * 2**stage
        channels = width if convs == 2 else 4 * width
        for i in range(num_blocks):
            block = f'layer{stage + 1}.{i}'
            sizes = [(in_channels, width, 3), (width, width, 3)]
            if convs == 3:
                sizes = [(in_channels, width, 1), (width, width, 3), (width, channels, 1)]
            for j, size in enumerate(sizes, start=1):
                yield from _conv_norm((f'{block}.conv{j}',) * 2, (f'{block}.bn{j}',) * 2, *size)
            if i == 0:
                skip = f'{block}.downsample'
                size = (in_channels, channels, 1)
                yield from _conv_norm((f'{skip}.0',) * 2, (f'{skip}.1',) * 2, *size)
            in_channels = channels


def _mobilenetv2_layers() -> Iterator[_Layer]:
    yield from _module('features.0', 'conv1', 3, 32, 3)
    in_channels, feature = 32, 1
    for stage, (num_blocks, channels, expansion) in enumerate(MOBILENETV2, start=1):
        for i in range(num_blocks):
            hidden = in_channels * expansion
            # Input channels of a group, output channels, kernel.
            sizes = [(in_channels, hidden, 1), (1, hidden, 3), (hidden, channels, 1)]
            for j, size in enumerate(sizes if expansion > 1 else sizes[1:]):
                ours = f'layer{stage}.{i}.conv.{j}'
                yield from _module(f'features.{feature}.conv', ours, *size, first=3 * j)
            in_channels = channels
            feature += 1


def _deeplabv3_layers(in_channels: int, channels: int, num_classes: int) -> Iterator[_Layer]:
    ours = 'decode_head.aspp_modules'
    yield from _module('head.aspp.b0', f'{ours}.0', in_channels, channels, 1)
    for i in (1, 2, 3):
        yield from _module(f'head.aspp.b{i}.block', f'{ours}.{i}', in_channels, channels, 3)
    pool = 'decode_head.image_pool.1'
    yield from _module('head.aspp.b4.gap', pool, in_channels, channels, 1, first=1)
    bottleneck = 'decode_head.bottleneck'
    yield from _module('head.aspp.project', f'{bottleneck}.0', 5 * channels, channels, 1)
    yield from _module('head.block', f'{bottleneck}.2', channels, channels, 3)
    yield _Layer('head.block.4', 'decode_head.conv_seg', (num_classes, channels, 1, 1), bias=True)


def _pspnet_layers(in_channels: int, channels: int, num_classes: int) -> Iterator[_Layer]:
    for i in range(4):
        ours = f'decode_head.psp_modules.{i}.1'
        yield from _module(f'head.psp.conv{i + 1}', ours, in_channels, in_channels // 4, 1)
    yield from _module('head.block', 'decode_head.bottleneck', 2 * in_channels, channels, 3)
    shape = (num_classes, channels, 1, 1)
    yield _Layer('head.classifier', 'decode_head.conv_seg', shape, bias=True)


def _auxiliary_layers(in_channels: int, num_classes: int) -> Iterator[_Layer]:
    channels = in_channels // 4
    ours = 'auxiliary_head'
    yield from _module('auxlayer.block', f'{ours}.convs.0', in_channels, channels, 3)
    shape = (num_classes, channels, 1, 1)
    yield _Layer('auxlayer.block.4', f'{ours}.conv_seg', shape, bias=True)


_BACKBONE_LAYERS = {
    'R18': lambda: _resnet_layers((2, 2, 2, 2), 2),
    'R101': lambda: _resnet_layers((3, 4, 23, 3), 3),
    'MobileNetV2': _mobilenetv2_layers,
}
_HEAD_LAYERS = {'DeepLabV3': _deeplabv3_layers, 'PSPNet': _pspnet_layers}
