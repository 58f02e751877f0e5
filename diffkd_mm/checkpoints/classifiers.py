"""Checkpoints of classifiers, as weights of MMPretrain's ``ImageClassifier``.

Known are

- the networks of the CRD benchmark for CIFAR-100 (Tian et al. 2020, arXiv:1910.10699), whose
  names the code of many distillation papers keeps: ResNet-20, -56, -8x4, ... with three stages,
  ResNet-50, wide ResNets, VGG, MobileNetV2 of half width, ShuffleNetV1 and -V2;
- ResNet and MobileNetV2 of torchvision, and timm's ResNets of the same names;
- MobileNetV1 as a ``Sequential`` with the name ``model`` (``model.0.0.weight``, ``fc.weight``), and
  timm's, which has ReLU6 in place of ReLU.

Weights do not tell how images are normalized: that stays with the config, as does everything
else without weights.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from mmengine.registry import MODELS
from torch import Tensor, nn

from ..errors import DistillationError
from .cirkd import RESNETS, check_names

Weights = Mapping[str, Tensor]


@dataclass
class ClassifierWeights:
    """A converted checkpoint of a classifier.

    Attributes:
        network (str): What the checkpoint is, such as ``'ResNet-56 of the CRD benchmark'``.
        backbone (dict): Config of the backbone that the weights fit.
        state_dict (dict[str, Tensor]): Weights of an ``ImageClassifier`` with this backbone,
            ``GlobalAveragePooling`` and ``LinearClsHead``, complete.
        num_classes (int): Classes of the network.
    """

    network: str
    backbone: dict
    state_dict: dict[str, Tensor]
    num_classes: int


@dataclass
class _Layout:
    """Names of tensors in the checkpoints of a family of networks.

    Attributes:
        family (str): What messages call the networks.
        origin (str): Where such checkpoints are from, in messages.
        telltale (str): A tensor that together with the classifier's weight tells its checkpoints
            from all that come later in the list.
        find_network (Callable): From the weights the name of the network and the config of its
            backbone, or None if there is no such backbone.
        rename (Callable): From a module in our backbone its name in the checkpoint.
        classifier (str): Name of the linear classifier in the checkpoint.
    """

    family: str
    origin: str
    telltale: str
    find_network: Callable[[Weights], tuple[str, dict | None]]
    rename: Callable[[str, nn.Module], str]
    classifier: str


def is_classifier(weights: Weights) -> bool:
    """Whether a state dict has the names of a classifier that can be converted."""
    return _find_layout(weights) is not None


def convert_classifier(weights: Weights, source: str) -> ClassifierWeights:
    """Converts a classifier, so that MMPretrain's network or ours computes the same.

    Args:
        weights (Mapping[str, Tensor]): State dict with the names of its origin.
        source (str): What messages call the checkpoint, usually its path.

    Returns:
        ClassifierWeights: Weights of an ``ImageClassifier``.

    Raises:
        DistillationError: If it is none of the known networks, or a name is missing or left over,
            or a tensor has another shape.
    """
    layout = _find_layout(weights)
    if layout is None:
        hint = ''
        if any(name.startswith('backbone.') for name in weights):
            hint = ' It has the names of OpenMMLab; has it been converted already?'
        families = ', '.join(f'{x.family} {x.origin}' for x in _LAYOUTS)
        raise DistillationError(
            f'{source!r} has the names of no classifier that can be converted: {families}.{hint}'
        )
    try:
        network, config = layout.find_network(weights)
    except KeyError as error:
        raise DistillationError(
            f'{source!r}, a {layout.family} {layout.origin}, has no {error.args[0]}.'
        ) from error
    network = f'{network} {layout.origin}'
    if config is None:
        raise DistillationError(f'{source!r} is a {network}, for which there is no backbone.')
    state_dict = _rename(layout, MODELS.build(config), weights, f'{source!r}, a {network}')
    return ClassifierWeights(network, config, state_dict, len(state_dict['head.fc.bias']))


def _find_layout(weights: Weights) -> _Layout | None:
    names = weights.keys()
    return next((x for x in _LAYOUTS if {x.telltale, f'{x.classifier}.weight'} <= names), None)


def _rename(layout: _Layout, backbone: nn.Module, weights: Weights, what: str) -> dict[str, Tensor]:
    """Takes the tensors of our network under their names in the checkpoint; none may be left."""
    wanted = {}
    for ours, tensor in backbone.state_dict().items():
        module, kind = ours.rsplit('.', 1)
        wanted[f'backbone.{ours}'] = f'{layout.rename(module, backbone)}.{kind}', tensor.shape
    for kind in ('weight', 'bias'):
        wanted[f'head.fc.{kind}'] = f'{layout.classifier}.{kind}', None
    state_dict, missing, left = {}, [], dict(weights)
    for ours, (name, shape) in wanted.items():
        if ours.endswith('.num_batches_tracked'):  # PyTorch before 0.4.1 did not count
            left.setdefault(name, torch.tensor(0))
        if name not in left:
            missing.append(name)
            continue
        state_dict[ours] = left.pop(name)
        if shape is not None and state_dict[ours].shape != shape:
            raise DistillationError(
                f'{what}: {name} has shape {tuple(state_dict[ours].shape)} instead of '
                f'{tuple(shape)}.'
            )
    check_names(what, missing, list(left))
    return state_dict


def _count(weights: Weights, pattern: str) -> tuple[int, ...]:
    """Modules of each stage, by a pattern with the numbers of stage and module."""
    stages: dict[int, int] = {}
    for match in filter(None, (re.match(pattern, name) for name in weights)):
        stage, module = int(match[1]), int(match[2])
        stages[stage] = max(stages.get(stage, 0), module + 1)
    return tuple(stages[stage] for stage in sorted(stages))


def _resnet(weights: Weights, **config) -> tuple[str, dict | None]:
    blocks = _count(weights, r'layer(\d)\.(\d+)\.')
    depth = RESNETS.get((blocks, 3 if 'layer1.0.conv3.weight' in weights else 2))
    if depth is None:
        return f'ResNet of {list(blocks)} blocks', None
    return f'ResNet-{depth}', dict(config, depth=depth)


def _cifar_resnet(weights: Weights) -> tuple[str, dict | None]:
    blocks = _count(weights, r'layer(\d)\.(\d+)\.')
    if blocks != blocks[:1] * 3 or 'layer1.0.conv3.weight' in weights:
        return f'ResNet of {list(blocks)} blocks', None
    depth = 6 * blocks[0] + 2
    stem, base = len(weights['conv1.weight']), len(weights['layer1.0.conv1.weight'])
    name = f'ResNet-{depth}' if base == 16 else f'ResNet-{depth}x{base // 16}'
    config = dict(depth=depth, stem_channels=stem, base_channels=base)
    return name, dict(type='diffkd_mm.CIFARResNet', **config)


def _wide_resnet(weights: Weights) -> tuple[str, dict | None]:
    blocks = _count(weights, r'block(\d)\.layer\.(\d+)\.')
    if blocks != blocks[:1] * 3:
        return f'wide ResNet of {list(blocks)} blocks', None
    depth, width = 6 * blocks[0] + 4, len(weights['block1.layer.0.conv1.weight']) // 16
    config = dict(type='diffkd_mm.CIFARWideResNet', depth=depth, widen_factor=width)
    return f'WRN-{depth}-{width}', config


def _vgg(weights: Weights) -> tuple[str, dict | None]:
    # Convolution, BN and ReLU in turn, without the last ReLU.
    convs = tuple((x + 1) // 3 for x in _count(weights, r'block(\d)\.(\d+)\.'))
    depths = {(1,) * 5: 8, (1, 1, 2, 2, 2): 11, (2,) * 5: 13}
    depths.update({(2, 2, 3, 3, 3): 16, (2, 2, 4, 4, 4): 19})
    if convs not in depths:
        return f'VGG of {list(convs)} convolutions', None
    return f'VGG-{depths[convs]}', dict(type='diffkd_mm.CIFARVGG', depth=depths[convs])


def _number(kind: str) -> int:
    """Of the convolution and the norm in a ``ConvModule``, in a ``Sequential`` of both."""
    return 1 if kind == 'bn' else 0


def _rename_nothing(name: str, backbone: nn.Module) -> str:
    return name


def _rename_shortcut(name: str, backbone: nn.Module) -> str:
    return name.replace('.downsample.', '.shortcut.')


def _rename_wide_resnet(name: str, backbone: nn.Module) -> str:
    name = re.sub(r'^layer(\d)\.', r'block\1.layer.', name)
    return name.replace('.shortcut', '.convShortcut')


def _rename_vgg(name: str, backbone: nn.Module) -> str:
    _, i, kind = name.split('.')
    starts = [start for start, _ in backbone.range_sub_modules]
    stage = max(x for x in range(5) if starts[x] <= int(i))
    return f'block{stage}.{3 * (int(i) - starts[stage]) + _number(kind)}'


def _rename_cifar_mobilenet_v2(name: str, backbone: nn.Module) -> str:
    path, kind = name.rsplit('.', 1)
    if path in ('conv1', 'conv2'):
        return f'{path}.{_number(kind)}'
    _, stage, block, _, i = path.split('.')
    return f'blocks.{stage}.{block}.conv.{3 * int(i) + _number(kind)}'


def _rename_shufflenet_v1(name: str, backbone: nn.Module) -> str:
    path, kind = name.rsplit('.', 1)
    if path == 'conv1':
        return f'{kind}1'
    _, stage, unit, layer = path.split('.')
    number = ('compress', 'depthwise', 'expand').index(layer) + 1
    return f'layer{int(stage) + 1}.{unit}.{kind}{number}'


def _rename_shufflenet_v2(name: str, backbone: nn.Module) -> str:
    path, kind = name.rsplit('.', 1)
    if path in ('conv1', 'layers.3'):
        return f'{kind}{1 if path == "conv1" else 2}'
    _, stage, unit, branch, i = path.split('.')
    before = 2 if unit == '0' and branch == 'branch2' else 0  # convolutions of the first branch
    return f'layer{int(stage) + 1}.{unit}.{kind}{before + int(i) + 1}'


def _rename_mobilenet_v1(name: str, backbone: nn.Module) -> str:
    path, kind = name.rsplit('.', 1)
    if path == 'conv1':
        return f'model.0.{_number(kind)}'
    _, i, layer = path.split('.')
    return f'model.{int(i) + 1}.{(3 if layer == "pointwise_conv" else 0) + _number(kind)}'


def _timm_mobilenet_v1(weights: Weights) -> tuple[str, dict | None]:
    if 'blocks.1.0.conv_pwl.weight' in weights:
        return 'network of inverted residuals', None
    if 'conv_head.weight' in weights:
        return 'MobileNetV1 with one more convolution', None
    return 'MobileNetV1', dict(type='diffkd_mm.MobileNetV1', act_cfg=dict(type='ReLU6'))


def _rename_timm_mobilenet_v1(name: str, backbone: nn.Module) -> str:
    path, kind = name.rsplit('.', 1)
    if path == 'conv1':
        return 'conv_stem' if kind == 'conv' else 'bn1'
    _, i, layer = path.split('.')
    strides = [stride for _, stride in backbone.arch_settings]
    # A stage begins where the stride is 2.
    starts = [j for j, stride in enumerate(strides) if j == 0 or stride == 2]
    stage = max(j for j, start in enumerate(starts) if start <= int(i))
    pointwise = layer == 'pointwise_conv'
    module = ('conv_pw' if pointwise else 'conv_dw') if kind == 'conv' else f'bn{1 + pointwise}'
    return f'blocks.{stage}.{int(i) - starts[stage]}.{module}'


def _rename_mobilenet_v2(name: str, backbone: nn.Module) -> str:
    path, kind = name.rsplit('.', 1)
    if path in ('conv1', 'conv2'):
        return f'features.{0 if path == "conv1" else 18}.{_number(kind)}'
    stage, block, _, i = path.split('.')
    stage_blocks = [num_blocks for _, _, num_blocks, _ in backbone.arch_settings]
    feature = 1 + sum(stage_blocks[: int(stage.removeprefix('layer')) - 1]) + int(block)
    last = 1 if feature == 1 else 2  # only the first block has no expansion
    if int(i) < last:
        return f'features.{feature}.conv.{i}.{_number(kind)}'
    return f'features.{feature}.conv.{last + _number(kind)}'


CRD = 'of the CRD benchmark'
_LAYOUTS = [
    _Layout(
        'ResNet',
        'of torchvision or timm',
        'layer4.0.downsample.0.weight',
        lambda weights: _resnet(weights, type='mmpretrain.ResNet'),
        _rename_nothing,
        'fc',
    ),
    _Layout(
        'MobileNetV2',
        'of torchvision',
        'features.1.conv.0.0.weight',
        lambda weights: ('MobileNetV2', dict(type='mmpretrain.MobileNetV2')),
        _rename_mobilenet_v2,
        'classifier.1',
    ),
    _Layout(
        'MobileNetV1',
        'as one Sequential',
        'model.0.0.weight',
        lambda weights: ('MobileNetV1', dict(type='diffkd_mm.MobileNetV1')),
        _rename_mobilenet_v1,
        'fc',
    ),
    _Layout(
        'MobileNetV1',
        'of timm',
        'blocks.1.0.conv_dw.weight',
        _timm_mobilenet_v1,
        _rename_timm_mobilenet_v1,
        'classifier',
    ),
    _Layout(
        'ResNet-50',
        CRD,
        'layer4.0.shortcut.0.weight',
        lambda weights: _resnet(weights, type='mmpretrain.ResNet_CIFAR', zero_init_residual=False),
        _rename_shortcut,
        'linear',
    ),
    _Layout('ResNet', CRD, 'layer2.0.downsample.0.weight', _cifar_resnet, _rename_nothing, 'fc'),
    _Layout(
        'wide ResNet',
        CRD,
        'block1.layer.0.conv1.weight',
        _wide_resnet,
        _rename_wide_resnet,
        'fc',
    ),
    _Layout('VGG', CRD, 'block0.0.weight', _vgg, _rename_vgg, 'classifier'),
    _Layout(
        'MobileNetV2',
        CRD,
        'blocks.0.0.conv.0.weight',
        lambda weights: ('MobileNetV2', dict(type='diffkd_mm.CIFARMobileNetV2')),
        _rename_cifar_mobilenet_v2,
        'classifier.0',
    ),
    _Layout(
        'ShuffleNetV2',
        CRD,
        'layer3.0.conv5.weight',
        lambda weights: ('ShuffleNetV2', dict(type='diffkd_mm.CIFARShuffleNetV2')),
        _rename_shufflenet_v2,
        'linear',
    ),
    _Layout(
        'ShuffleNetV1',
        CRD,
        'layer3.0.conv3.weight',
        lambda weights: ('ShuffleNetV1', dict(type='diffkd_mm.CIFARShuffleNetV1')),
        _rename_shufflenet_v1,
        'linear',
    ),
]
