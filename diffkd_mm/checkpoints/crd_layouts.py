"""The networks of the CRD benchmark for CIFAR-100 (Tian et al. 2020, arXiv:1910.10699)."""

import re

from torch import nn

from .layout import Layout, Weights, count_modules, find_resnet, index_in_pair, keep_name


def _cifar_resnet(weights: Weights) -> tuple[str, dict | None]:
    blocks = count_modules(weights, r'layer(\d)\.(\d+)\.')
    if blocks != blocks[:1] * 3 or 'layer1.0.conv3.weight' in weights:
        return f'ResNet of {list(blocks)} blocks', None
    depth = 6 * blocks[0] + 2
    stem, base = len(weights['conv1.weight']), len(weights['layer1.0.conv1.weight'])
    name = f'ResNet-{depth}' if base == 16 else f'ResNet-{depth}x{base // 16}'
    config = dict(depth=depth, stem_channels=stem, base_channels=base)
    return name, dict(type='diffkd_mm.CIFARResNet', **config)


def _wide_resnet(weights: Weights) -> tuple[str, dict | None]:
    blocks = count_modules(weights, r'block(\d)\.layer\.(\d+)\.')
    if blocks != blocks[:1] * 3:
        return f'wide ResNet of {list(blocks)} blocks', None
    depth, width = 6 * blocks[0] + 4, len(weights['block1.layer.0.conv1.weight']) // 16
    config = dict(type='diffkd_mm.CIFARWideResNet', depth=depth, widen_factor=width)
    return f'WRN-{depth}-{width}', config


def _vgg(weights: Weights) -> tuple[str, dict | None]:
    # Convolution, BN and ReLU in turn, without the last ReLU.
    convs = tuple((x + 1) // 3 for x in count_modules(weights, r'block(\d)\.(\d+)\.'))
    depths = {(1,) * 5: 8, (1, 1, 2, 2, 2): 11, (2,) * 5: 13}
    depths.update({(2, 2, 3, 3, 3): 16, (2, 2, 4, 4, 4): 19})
    if convs not in depths:
        return f'VGG of {list(convs)} convolutions', None
    return f'VGG-{depths[convs]}', dict(type='diffkd_mm.CIFARVGG', depth=depths[convs])


def _rename_shortcut(name: str, backbone: nn.Module) -> str:
    return name.replace('.downsample.', '.shortcut.')


def _rename_wide_resnet(name: str, backbone: nn.Module) -> str:
    name = re.sub(r'^layer(\d)\.', r'block\1.layer.', name)
    return name.replace('.shortcut', '.convShortcut')


def _rename_vgg(name: str, backbone: nn.Module) -> str:
    _, i, kind = name.split('.')
    starts = [start for start, _ in backbone.range_sub_modules]
    stage = max(x for x in range(5) if starts[x] <= int(i))
    return f'block{stage}.{3 * (int(i) - starts[stage]) + index_in_pair(kind)}'


def _rename_cifar_mobilenet_v2(name: str, backbone: nn.Module) -> str:
    path, kind = name.rsplit('.', 1)
    if path in ('conv1', 'conv2'):
        return f'{path}.{index_in_pair(kind)}'
    _, stage, block, _, i = path.split('.')
    return f'blocks.{stage}.{block}.conv.{3 * int(i) + index_in_pair(kind)}'


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


CRD = 'of the CRD benchmark'
CRD_LAYOUTS = [
    Layout(
        'ResNet-50',
        CRD,
        'layer4.0.shortcut.0.weight',
        lambda weights: find_resnet(
            weights, type='mmpretrain.ResNet_CIFAR', zero_init_residual=False
        ),
        _rename_shortcut,
        'linear',
    ),
    Layout('ResNet', CRD, 'layer2.0.downsample.0.weight', _cifar_resnet, keep_name, 'fc'),
    Layout(
        'wide ResNet',
        CRD,
        'block1.layer.0.conv1.weight',
        _wide_resnet,
        _rename_wide_resnet,
        'fc',
    ),
    Layout('VGG', CRD, 'block0.0.weight', _vgg, _rename_vgg, 'classifier'),
    Layout(
        'MobileNetV2',
        CRD,
        'blocks.0.0.conv.0.weight',
        lambda weights: ('MobileNetV2', dict(type='diffkd_mm.CIFARMobileNetV2')),
        _rename_cifar_mobilenet_v2,
        'classifier.0',
    ),
    Layout(
        'ShuffleNetV2',
        CRD,
        'layer3.0.conv5.weight',
        lambda weights: ('ShuffleNetV2', dict(type='diffkd_mm.CIFARShuffleNetV2')),
        _rename_shufflenet_v2,
        'linear',
    ),
    Layout(
        'ShuffleNetV1',
        CRD,
        'layer3.0.conv3.weight',
        lambda weights: ('ShuffleNetV1', dict(type='diffkd_mm.CIFARShuffleNetV1')),
        _rename_shufflenet_v1,
        'linear',
    ),
]
