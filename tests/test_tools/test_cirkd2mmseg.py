"""Converted checkpoints of CIRKD compute what CIRKD's networks compute.

The networks here are written from their description in plain PyTorch, with CIRKD's names, and
share nothing with ours.
"""

import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.registry import MODELS
from torch import nn

from diffkd_mm.checkpoints import convert_cirkd, is_cirkd
from diffkd_mm.distillers import FrozenTeacher
from diffkd_mm.errors import DistillationError

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / 'tools' / 'model_converters'))

import cirkd2mmseg  # noqa: E402


def conv(inputs, outputs, kernel, stride=1, dilation=1, groups=1):
    pad = dilation * (kernel // 2)
    return nn.Conv2d(inputs, outputs, kernel, stride, pad, dilation, groups, bias=False)


def conv_bn_relu(inputs, outputs, kernel, dilation=1):
    layers = conv(inputs, outputs, kernel, dilation=dilation), nn.BatchNorm2d(outputs), nn.ReLU()
    return nn.Sequential(*layers)


def resize(x, size):
    return F.interpolate(x, size, mode='bilinear', align_corners=True)


class ResidualBlock(nn.Module):
    """``convs`` is a list of (outputs, kernel, stride, dilation)."""

    def __init__(self, inputs, convs, stride, is_first):
        super().__init__()
        self.num_convs = len(convs)
        channels = inputs
        for i, (outputs, kernel, conv_stride, dilation) in enumerate(convs, start=1):
            self.add_module(f'conv{i}', conv(channels, outputs, kernel, conv_stride, dilation))
            self.add_module(f'bn{i}', nn.BatchNorm2d(outputs))
            channels = outputs
        if is_first:
            skip = conv(inputs, channels, 1, stride), nn.BatchNorm2d(channels)
            self.downsample = nn.Sequential(*skip)

    def forward(self, x):
        out = x
        for i in range(1, self.num_convs + 1):
            out = self.get_submodule(f'bn{i}')(self.get_submodule(f'conv{i}')(out))
            out = out.relu() if i < self.num_convs else out
        return (out + (self.downsample(x) if hasattr(self, 'downsample') else x)).relu()


class ResNet(nn.Module):
    def __init__(self, blocks, is_bottleneck):
        super().__init__()
        for i, (inputs, outputs, stride) in enumerate([(3, 64, 2), (64, 64, 1), (64, 128, 1)]):
            self.add_module(f'conv{i + 1}', conv(inputs, outputs, 3, stride))
            self.add_module(f'bn{i + 1}', nn.BatchNorm2d(outputs))
        channels = 128
        settings = zip(blocks, (64, 128, 256, 512), (1, 2, 1, 1), (1, 1, 2, 4))
        for stage, (num_blocks, width, stage_stride, stage_dilation) in enumerate(settings):
            layer = nn.Sequential()
            for i in range(num_blocks):
                stride = stage_stride if i == 0 else 1
                dilation = max(stage_dilation // 2, 1) if i == 0 else stage_dilation
                convs = [(width, 3, stride, dilation), (width, 3, 1, stage_dilation)]
                if is_bottleneck:
                    convs = [(width, 1, 1, 1), (width, 3, stride, dilation), (4 * width, 1, 1, 1)]
                layer.append(ResidualBlock(channels, convs, stride, i == 0))
                channels = convs[-1][0]
            self.add_module(f'layer{stage + 1}', layer)

    def forward(self, x):
        for i in (1, 2, 3):
            x = self.get_submodule(f'bn{i}')(self.get_submodule(f'conv{i}')(x)).relu()
        x = F.max_pool2d(x, 3, stride=2, padding=1)
        stage3 = self.layer3(self.layer2(self.layer1(x)))
        return stage3, self.layer4(stage3)


class InvertedResidual(nn.Module):
    def __init__(self, inputs, outputs, expansion, stride, dilation):
        super().__init__()
        hidden = inputs * expansion
        self.is_residual = stride == 1 and inputs == outputs
        self.conv = nn.Sequential()
        if expansion > 1:
            self.conv.extend([conv(inputs, hidden, 1), nn.BatchNorm2d(hidden), nn.ReLU6()])
        depthwise = conv(hidden, hidden, 3, stride, dilation, groups=hidden)
        self.conv.extend([depthwise, nn.BatchNorm2d(hidden), nn.ReLU6()])
        self.conv.extend([conv(hidden, outputs, 1), nn.BatchNorm2d(outputs)])

    def forward(self, x):
        return x + self.conv(x) if self.is_residual else self.conv(x)


class MobileNetV2(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Module()
        stem = nn.Sequential(conv(3, 32, 3, 2), nn.BatchNorm2d(32), nn.ReLU6())
        self.net.features = nn.Sequential(stem)
        channels = [32, 16, 24, 24, 32, 32, 32, *[64] * 4, *[96] * 3, *[160] * 3, 320]
        for i in range(1, 18):
            dilation = 4 if i >= 14 else 2 if i >= 7 else 1
            if i in (7, 14):  # these had stride 2
                dilation //= 2
            stride = 2 if i in (2, 4) else 1
            sizes = channels[i - 1], channels[i], 1 if i == 1 else 6
            self.net.features.append(InvertedResidual(*sizes, stride, dilation))

    def forward(self, x):
        return None, self.net.features(x)


class DeepLabV3Head(nn.Module):
    def __init__(self, inputs, width, classes):
        super().__init__()
        self.aspp = nn.Module()
        self.aspp.b0 = conv_bn_relu(inputs, width, 1)
        for i, dilation in enumerate((12, 24, 36), start=1):
            branch = nn.Module()
            branch.block = conv_bn_relu(inputs, width, 3, dilation)
            self.aspp.add_module(f'b{i}', branch)
        self.aspp.b4 = nn.Module()
        pool = nn.AdaptiveAvgPool2d(1)
        self.aspp.b4.gap = nn.Sequential(pool, *conv_bn_relu(inputs, width, 1))
        self.aspp.project = conv_bn_relu(5 * width, width, 1).append(nn.Dropout(0.5))
        self.block = conv_bn_relu(width, width, 3).append(nn.Dropout(0.1))
        self.block.append(nn.Conv2d(width, classes, 1))

    def forward(self, x):
        aspp = self.aspp
        branches = [aspp.b0(x), aspp.b1.block(x), aspp.b2.block(x), aspp.b3.block(x)]
        branches.append(resize(aspp.b4.gap(x), x.shape[2:]))
        return self.block(aspp.project(torch.cat(branches, 1)))


class PSPHead(nn.Module):
    def __init__(self, inputs, width, classes):
        super().__init__()
        self.psp = nn.Module()
        for i in range(1, 5):
            self.psp.add_module(f'conv{i}', conv_bn_relu(inputs, inputs // 4, 1))
        self.block = conv_bn_relu(2 * inputs, width, 3).append(nn.Dropout(0.1))
        self.classifier = nn.Conv2d(width, classes, 1)

    def forward(self, x):
        maps = [x]
        for i, size in enumerate((1, 2, 3, 6), start=1):
            pooled = self.psp.get_submodule(f'conv{i}')(F.adaptive_avg_pool2d(x, size))
            maps.append(resize(pooled, x.shape[2:]))
        return self.classifier(self.block(torch.cat(maps, 1)))


class Network(nn.Module):
    def __init__(self, backbone, head, width, classes=19):
        super().__init__()
        if backbone == 'mobilenetv2':
            self.pretrained, channels = MobileNetV2(), 320
        else:
            blocks = {18: (2, 2, 2, 2), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}[backbone]
            self.pretrained = ResNet(blocks, is_bottleneck=backbone > 34)
            channels = 512 if backbone == 18 else 2048
            inputs = channels // 2
            self.auxlayer = nn.Module()
            self.auxlayer.block = conv_bn_relu(inputs, inputs // 4, 3).append(nn.Dropout(0.1))
            self.auxlayer.block.append(nn.Conv2d(inputs // 4, classes, 1))
        self.head = head(channels, width, classes)

    def forward(self, x):
        stage3, stage4 = self.pretrained(x)
        aux = self.auxlayer.block(stage3) if hasattr(self, 'auxlayer') else None
        return self.head(stage4), aux


NETWORKS = {  # name: config, backbone, head, width
    'DeepLabV3-R18': ('deeplabv3_r18', 18, DeepLabV3Head, 128),
    'PSPNet-R18': ('pspnet_r18', 18, PSPHead, 128),
    'DeepLabV3-MobileNetV2': ('deeplabv3_mbv2', 'mobilenetv2', DeepLabV3Head, 128),
    'DeepLabV3-R101': ('deeplabv3_r101', 101, DeepLabV3Head, 256),
}


def cirkd_network(name):
    """CIRKD's network in eval mode, with random weights and random statistics."""
    network = Network(*NETWORKS[name][1:]).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for scale in (module.weight, module.running_var):
                nn.init.uniform_(scale, 0.5, 1.5)
            for shift in (module.bias, module.running_mean):
                nn.init.normal_(shift, std=0.1)
    return network


def empty_weights(*network):
    """A state dict of meta tensors: names and shapes, which is all that errors need."""
    with torch.device('meta'):
        return Network(*network).state_dict()


def our_network(config):
    """A network without values, so that what is not loaded cannot be used."""
    cfg = Config.fromfile(ROOT / 'configs' / '_base_' / 'models' / f'{config}.py').model
    with torch.device('meta'):
        return MODELS.build(dict(_scope_='mmseg', **cfg)).eval()


def assert_same(ours, theirs):
    error = (ours - theirs).abs().max() / theirs.abs().max()
    assert ours.shape == theirs.shape
    assert error < 1e-5
    assert theirs.std() > 0.01 * theirs.abs().max()  # or else anything would do


@torch.no_grad()
@pytest.mark.parametrize('name', NETWORKS)
def test_networks_compute_the_same(name):
    theirs, ours = cirkd_network(name), our_network(NETWORKS[name][0])
    assert is_cirkd(theirs.state_dict())
    converted = convert_cirkd(theirs.state_dict(), 'network.pth')
    assert (converted.network, converted.num_classes, converted.dropped) == (name, 19, [])
    ours.load_state_dict(converted.state_dict, strict=True, assign=True)
    # 39 columns at stride 8: room for a dilation of 36.
    image = torch.randn(1, 3, 33, 305) * 50
    logits, aux_logits = theirs(image)
    metas = [dict(img_shape=(33, 305))]
    assert_same(ours.encode_decode(image, metas), resize(logits, (33, 305)))
    if aux_logits is not None:
        assert_same(ours.auxiliary_head(ours.extract_feat(image)), aux_logits)


@torch.no_grad()
@pytest.mark.parametrize(
    ('name', 'prefix', 'dropped'),
    [
        ('DeepLabV3-R18', 'pretrained.', ['fc.weight', 'fc.bias']),
        (
            'DeepLabV3-MobileNetV2',
            'pretrained.net.',
            ['features.18.0.weight', 'features.18.1.running_var', 'classifier.1.weight'],
        ),
    ],
)
def test_backbones_initialise_the_backbone_of_the_config(name, prefix, dropped, tmp_path, capsys):
    theirs = cirkd_network(name).pretrained
    weights = {f'pretrained.{k}': v for k, v in theirs.state_dict().items()}
    # PyTorch did not count batches when these files were made.
    weights = {k.removeprefix(prefix): v for k, v in weights.items() if 'num_batches' not in k}
    weights.update((k, torch.ones(1)) for k in dropped)
    torch.save(weights, tmp_path / 'imagenet.pth')
    out = tmp_path / 'new' / 'backbone.pth'
    cirkd2mmseg.main([str(tmp_path / 'imagenet.pth'), str(out)])
    printed = capsys.readouterr().out
    assert f'{name.split("-")[1]}, a backbone' in printed
    assert ', '.join(dropped) in printed

    cfg = Config.fromfile(ROOT / 'configs' / '_base_' / 'models' / f'{NETWORKS[name][0]}.py')
    cfg = cfg.model.backbone
    cfg.init_cfg.checkpoint = str(out)
    ours = MODELS.build(dict(_scope_='mmseg', **cfg))
    ours.init_weights()
    ours.eval()
    assert ours.state_dict().keys() == torch.load(out)['state_dict'].keys()
    image = torch.randn(1, 3, 33, 305) * 50
    assert_same(ours(image)[-1], theirs(image)[1])


@torch.no_grad()
def test_a_teacher_is_converted_while_it_is_loaded(tmp_path):
    theirs = cirkd_network('DeepLabV3-MobileNetV2')
    torch.save(theirs.state_dict(), tmp_path / 'cirkd.pth')
    config = ROOT / 'configs' / 'cityscapes' / 'deeplabv3_mbv2.py'
    ours = FrozenTeacher(str(config), str(tmp_path / 'cirkd.pth')).build(torch.device('cpu'))
    image = torch.randn(1, 3, 33, 305) * 50
    logits = ours.decode_head(ours.extract_feat(image))
    assert_same(resize(logits, (33, 305)), resize(theirs(image)[0], (33, 305)))


@pytest.mark.parametrize('network', ['DeepLabV3-R18', 'DeepLabV3-R101'])
def test_a_backbone_file_is_the_backbone_of_a_network(network):
    weights = empty_weights(*NETWORKS[network][1:])
    backbone = {k.removeprefix('pretrained.'): v for k, v in weights.items() if 'pretrained' in k}
    converted = convert_cirkd(backbone, 'imagenet.pth')
    assert (converted.network, converted.num_classes) == (network.split('-')[1], None)
    assert (
        converted.state_dict.keys()
        == our_network(NETWORKS[network][0]).backbone.state_dict().keys()
    )


def test_the_tool_writes_a_checkpoint_of_the_model(tmp_path, capsys):
    network = cirkd_network('DeepLabV3-MobileNetV2')
    weights = {f'module.{k}': v for k, v in network.state_dict().items()}  # saved under DDP
    torch.save(weights, tmp_path / 'student.pth')
    cirkd2mmseg.main([str(tmp_path / 'student.pth'), str(tmp_path / 'out.pth')])
    assert 'DeepLabV3-MobileNetV2, 19 classes' in capsys.readouterr().out
    checkpoint = torch.load(tmp_path / 'out.pth', weights_only=True)
    assert checkpoint['meta'] == dict(
        network='DeepLabV3-MobileNetV2', num_classes=19, converted_from='student.pth'
    )
    our_network('deeplabv3_mbv2').load_state_dict(checkpoint['state_dict'], assign=True)


@pytest.mark.parametrize(
    ('network', 'message'),
    [
        ((101, DeepLabV3Head, 512), r'R101 of CIRKD.s second version .* 512 .* paper has 256'),
        ((18, DeepLabV3Head, 512), r'R18 of CIRKD.s second version .* 512 .* paper has 128'),
        (('mobilenetv2', DeepLabV3Head, 64), r'MobileNetV2 with a head of 64'),
        ((50, DeepLabV3Head, 256), r'is DeepLabV3-R50, which is none'),
        ((101, PSPHead, 512), r'is PSPNet-R101, which is none'),
    ],
    ids=str,
)
def test_other_networks_are_named(network, message):
    with pytest.raises(DistillationError, match=message):
        convert_cirkd(empty_weights(*network), 'file.pth')


def spoil(weights, name, value):
    weights = dict(weights)
    weights.pop(name, None)
    return weights if value is None else {**weights, name: value}


@pytest.mark.parametrize(
    ('name', 'value', 'message'),
    [
        ('head.aspp.b2.block.1.bias', None, r'1 missing: head\.aspp\.b2\.block\.1\.bias\.'),
        ('head.block.4.weight', None, r'no head\.block\.4\.weight'),
        ('auxlayer.block.4.bias', None, r'1 missing: auxlayer\.block\.4\.bias\.'),
        ('head.proj_head.0.weight', torch.ones(1), r'1 unknown: head\.proj_head\.0\.weight\.'),
        ('pretrained.conv3.weight', torch.ones(64, 64, 3, 3), r'conv3\.weight has shape \(64, 64'),
    ],
    ids=str,
)
def test_every_key_is_accounted_for(name, value, message):
    weights = spoil(empty_weights(18, DeepLabV3Head, 128), name, value)
    with pytest.raises(DistillationError, match=message):
        convert_cirkd(weights, 'file.pth')


def test_other_checkpoints_are_refused():
    with pytest.raises(DistillationError, match='converted already'):
        convert_cirkd(our_network('deeplabv3_r18').state_dict(), 'file.pth')
    with pytest.raises(DistillationError, match='no checkpoint of CIRKD'):
        convert_cirkd({'weight': torch.ones(1)}, 'file.pth')
    headless = {k: v for k, v in empty_weights(18, PSPHead, 128).items() if 'head' not in k}
    shallow = {k: v for k, v in empty_weights(18, PSPHead, 128).items() if 'layer4.1' not in k}
    with pytest.raises(DistillationError, match=r'is PSPNet-ResNet of \[2, 2, 2, 1\] blocks'):
        convert_cirkd(shallow, 'file.pth')
    with pytest.raises(DistillationError, match='is UnknownHead-R18'):
        convert_cirkd(headless, 'file.pth')


class Opaque:
    """What a safe file does not contain."""


def test_the_tool_reads_safely(tmp_path):
    network = Network('mobilenetv2', DeepLabV3Head, 128)
    path, out = tmp_path / 'file.pth', str(tmp_path / 'out.pth')
    torch.save(dict(state_dict=network.state_dict(), args=Opaque()), path)
    with pytest.raises(SystemExit, match='--trust'):
        cirkd2mmseg.main([str(path), out])
    cirkd2mmseg.main([str(path), out, '--trust'])
    path.write_bytes(path.read_bytes()[:100_000])
    with pytest.raises(SystemExit, match='is cut off: its end is missing'):
        cirkd2mmseg.main([str(path), out])
