"""ResNets and MobileNets of torchvision, timm and others, for ImageNet."""

from torch import nn

from .layout import Layout, Weights, find_resnet, index_in_pair, keep_name


def _rename_mobilenet_v1(name: str, backbone: nn.Module) -> str:
    path, kind = name.rsplit('.', 1)
    if path == 'conv1':
        return f'model.0.{index_in_pair(kind)}'
    _, i, layer = path.split('.')
    return f'model.{int(i) + 1}.{(3 if layer == "pointwise_conv" else 0) + index_in_pair(kind)}'


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
        return f'features.{0 if path == "conv1" else 18}.{index_in_pair(kind)}'
    stage, block, _, i = path.split('.')
    stage_blocks = [num_blocks for _, _, num_blocks, _ in backbone.arch_settings]
    feature = 1 + sum(stage_blocks[: int(stage.removeprefix('layer')) - 1]) + int(block)
    last = 1 if feature == 1 else 2  # only the first block has no expansion
    if int(i) < last:
        return f'features.{feature}.conv.{i}.{index_in_pair(kind)}'
    return f'features.{feature}.conv.{last + index_in_pair(kind)}'


IMAGENET_LAYOUTS = [
    Layout(
        'ResNet',
        'of torchvision or timm',
        'layer4.0.downsample.0.weight',
        lambda weights: find_resnet(weights, type='mmpretrain.ResNet'),
        keep_name,
        'fc',
    ),
    Layout(
        'MobileNetV2',
        'of torchvision',
        'features.1.conv.0.0.weight',
        lambda weights: ('MobileNetV2', dict(type='mmpretrain.MobileNetV2')),
        _rename_mobilenet_v2,
        'classifier.1',
    ),
    Layout(
        'MobileNetV1',
        'as one Sequential',
        'model.0.0.weight',
        lambda weights: ('MobileNetV1', dict(type='diffkd_mm.MobileNetV1')),
        _rename_mobilenet_v1,
        'fc',
    ),
    Layout(
        'MobileNetV1',
        'of timm',
        'blocks.1.0.conv_dw.weight',
        _timm_mobilenet_v1,
        _rename_timm_mobilenet_v1,
        'classifier',
    ),
]
