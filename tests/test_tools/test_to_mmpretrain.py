"""Converted checkpoints of classifiers compute what the originals compute.

torchvision's networks are the real ones. The others are written here from their descriptions, as
functions that draw tensors under the checkpoint's names when they first need them; they share
nothing with ours.
"""

import sys
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
import torchvision
from mmengine.config import Config
from mmengine.registry import MODELS
from torch import nn

import diffkd_mm
from diffkd_mm.checkpoints import convert_classifier, convert_published, is_classifier
from diffkd_mm.checkpoints.imagenet_layouts import IMAGENET_LAYOUTS
from diffkd_mm.distillers import FrozenTeacher
from diffkd_mm.errors import DistillationError

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / 'tools' / 'model_converters'))

import to_mmpretrain  # noqa: E402


class Layers:
    """Layers in eval mode by the names of their tensors, drawn at the first call."""

    def __init__(self):
        self.weights = {}

    def draw(self, name, value):
        return self.weights.setdefault(name, value)

    def conv(self, x, name, channels, kernel, stride=1, groups=1, bias=False):
        shape = channels, x.shape[1] // groups, kernel, kernel
        weight = self.draw(
            f'{name}.weight', torch.randn(shape) * (2 / (shape[1] * kernel**2)) ** 0.5
        )
        bias = self.draw(f'{name}.bias', torch.randn(channels) * 0.1) if bias else None
        return F.conv2d(x, weight, bias, stride, kernel // 2, groups=groups)

    def bn(self, x, name):
        n = x.shape[1]
        mean = self.draw(f'{name}.running_mean', torch.randn(n) * 0.1)
        var = self.draw(f'{name}.running_var', torch.rand(n) + 0.5)
        weight = self.draw(f'{name}.weight', torch.rand(n) + 0.5)
        bias = self.draw(f'{name}.bias', torch.randn(n) * 0.1)
        self.draw(f'{name}.num_batches_tracked', torch.tensor(7))
        return F.batch_norm(x, mean, var, weight, bias)

    def linear(self, x, name, classes=100):
        pooled = x.mean((2, 3))
        weight = self.draw(f'{name}.weight', torch.randn(classes, x.shape[1]) * 0.1)
        return F.linear(pooled, weight, self.draw(f'{name}.bias', torch.randn(classes)))

    def conv_bn(self, x, path, number, *args, **kwargs):
        x = self.conv(x, f'{path}conv{number}', *args, **kwargs)
        return self.bn(x, f'{path}bn{number}')

    def sequential(self, x, path, first, *args, **kwargs):
        """A convolution and BN as children ``first`` and ``first + 1``."""
        return self.bn(self.conv(x, f'{path}.{first}', *args, **kwargs), f'{path}.{first + 1}')


def resnet(net, x, blocks, widths):
    x = net.conv_bn(x, '', 1, widths[0], 3).relu()
    for stage, width in enumerate(widths[1:], start=1):
        for i in range(blocks):
            path, stride = f'layer{stage}.{i}.', 2 if stage > 1 and i == 0 else 1
            out = net.conv_bn(x, path, 1, width, 3, stride).relu()
            out = net.conv_bn(out, path, 2, width, 3)
            if x.shape != out.shape:
                x = net.sequential(x, f'{path}downsample', 0, width, 1, stride)
            x = (x + out).relu()
    return net.linear(x, 'fc')


def resnet50(net, x):
    x = net.conv_bn(x, '', 1, 64, 3).relu()
    for stage, blocks in enumerate((3, 4, 6, 3), start=1):
        width = 32 * 2**stage
        for i in range(blocks):
            path, stride = f'layer{stage}.{i}.', 2 if stage > 1 and i == 0 else 1
            out = net.conv_bn(x, path, 1, width, 1).relu()
            out = net.conv_bn(out, path, 2, width, 3, stride).relu()
            out = net.conv_bn(out, path, 3, 4 * width, 1)
            if i == 0:
                x = net.sequential(x, f'{path}shortcut', 0, 4 * width, 1, stride)
            x = (x + out).relu()
    return net.linear(x, 'linear')


def wide_resnet(net, x, blocks, factor):
    x = net.conv(x, 'conv1', 16, 3)
    for stage, width in enumerate((16, 32, 64), start=1):
        width *= factor
        for i in range(blocks):
            path, stride = f'block{stage}.layer.{i}.', 2 if stage > 1 and i == 0 else 1
            active = net.bn(x, f'{path}bn1').relu()
            if x.shape[1] != width:
                x = net.conv(active, f'{path}convShortcut', width, 1, stride)
            out = net.conv(active, f'{path}conv1', width, 3, stride)
            x = x + net.conv(net.bn(out, f'{path}bn2').relu(), f'{path}conv2', width, 3)
    return net.linear(net.bn(x, 'bn1').relu(), 'fc')


def vgg(net, x, convs):
    for stage, width in enumerate((64, 128, 256, 512, 512)):
        for i in range(convs):
            x = net.sequential(x, f'block{stage}', 3 * i, width, 3, bias=True).relu()
        x = F.max_pool2d(x, 2) if stage < 3 else x
    return net.linear(x, 'classifier')


def mobilenet_v2(net, x):
    x = net.sequential(x, 'conv1', 0, 16, 3, 2).relu()
    stages = zip((8, 12, 16, 32, 48, 80, 160), (1, 2, 3, 4, 3, 3, 1), (1, 1, 2, 2, 1, 2, 1))
    for stage, (width, blocks, first_stride) in enumerate(stages):
        for i in range(blocks):
            path, stride = f'blocks.{stage}.{i}.conv', first_stride if i == 0 else 1
            hidden = x.shape[1] * (6 if stage else 1)
            out = net.sequential(x, path, 0, hidden, 1).relu()
            out = net.sequential(out, path, 3, hidden, 3, stride, hidden).relu()
            out = net.sequential(out, path, 6, width, 1)
            x = x + out if x.shape == out.shape else out
    return net.linear(net.sequential(x, 'conv2', 0, 1280, 1).relu(), 'classifier.0')


def shuffle(x, groups):
    return x.unflatten(1, (groups, -1)).transpose(1, 2).flatten(1, 2)


def shufflenet_v1(net, x):
    x = net.conv_bn(x, '', 1, 24, 1).relu()
    for stage, (width, units) in enumerate([(240, 4), (480, 8), (960, 4)], start=1):
        for i in range(units):
            path, groups = f'layer{stage}.{i}.', 1 if x.shape[1] == 24 else 3
            new = width if i else width - x.shape[1]
            out = net.conv_bn(x, path, 1, new // 4, 1, groups=groups).relu()
            out = shuffle(out, groups)
            out = net.conv_bn(out, path, 2, new // 4, 3, 1 if i else 2, new // 4).relu()
            out = net.conv_bn(out, path, 3, new, 1, groups=3)
            pooled = F.avg_pool2d(x, 3, 2, 1)
            x = (out + x if i else torch.cat([out, pooled], 1)).relu()
    return net.linear(x, 'linear')


def shufflenet_v2(net, x):
    x = net.conv_bn(x, '', 1, 24, 1).relu()
    for stage, (width, units) in enumerate([(116, 4), (232, 8), (464, 4)], start=1):
        half = width // 2
        for i in range(units):
            path = f'layer{stage}.{i}.'
            if i == 0:
                left = net.conv_bn(x, path, 1, x.shape[1], 3, 2, x.shape[1])
                left, right = net.conv_bn(left, path, 2, half, 1).relu(), x
            else:
                left, right = x[:, :half], x[:, half:]
            first, stride = (1, 1) if i else (3, 2)
            right = net.conv_bn(right, path, first, half, 1).relu()
            right = net.conv_bn(right, path, first + 1, half, 3, stride, half)
            right = net.conv_bn(right, path, first + 2, half, 1).relu()
            x = shuffle(torch.cat([left, right], 1), 2)
    return net.linear(net.conv_bn(x, '', 2, 1024, 1).relu(), 'linear')


def mobilenet_v1(net, x):
    x = net.sequential(x, 'model.0', 0, 32, 3, 2).relu()
    widths = 64, 128, 128, 256, 256, *[512] * 6, 1024, 1024
    for i, width in enumerate(widths, start=1):
        stride = 2 if i in (2, 4, 6, 12) else 1
        x = net.sequential(x, f'model.{i}', 0, x.shape[1], 3, stride, x.shape[1]).relu()
        x = net.sequential(x, f'model.{i}', 3, width, 1).relu()
    return net.linear(x, 'fc', 1000)


NETWORKS = {  # name: config in configs/_base_/models, network
    'ResNet-20 of the CRD benchmark': (
        'cifar/resnet20',
        partial(resnet, blocks=3, widths=(16, 16, 32, 64)),
    ),
    'ResNet-56 of the CRD benchmark': (
        'cifar/resnet56',
        partial(resnet, blocks=9, widths=(16, 16, 32, 64)),
    ),
    'ResNet-8x4 of the CRD benchmark': (
        'cifar/resnet8x4',
        partial(resnet, blocks=1, widths=(32, 64, 128, 256)),
    ),
    'ResNet-32x4 of the CRD benchmark': (
        'cifar/resnet32x4',
        partial(resnet, blocks=5, widths=(32, 64, 128, 256)),
    ),
    'WRN-40-1 of the CRD benchmark': ('cifar/wrn40_1', partial(wide_resnet, blocks=6, factor=1)),
    'WRN-40-2 of the CRD benchmark': ('cifar/wrn40_2', partial(wide_resnet, blocks=6, factor=2)),
    'VGG-8 of the CRD benchmark': ('cifar/vgg13', partial(vgg, convs=1)),
    'VGG-13 of the CRD benchmark': ('cifar/vgg13', partial(vgg, convs=2)),
    'MobileNetV2 of the CRD benchmark': ('cifar/mobilenet_v2', mobilenet_v2),
    'ShuffleNetV1 of the CRD benchmark': ('cifar/shufflenet_v1', shufflenet_v1),
    'ShuffleNetV2 of the CRD benchmark': ('cifar/shufflenet_v2', shufflenet_v2),
    'ResNet-50 of the CRD benchmark': ('cifar/resnet50', resnet50),
    'MobileNetV1 as one Sequential': ('mobilenet_v1', mobilenet_v1),
}
TORCHVISION = {
    'ResNet-18 of torchvision or timm': 'resnet18',
    'ResNet-34 of torchvision or timm': 'resnet34',
    'ResNet-50 of torchvision or timm': 'resnet50',
    'ResNet-101 of torchvision or timm': 'resnet101',
    'MobileNetV2 of torchvision': 'mobilenet_v2',
}


def draw(name):
    """A network's weights, an image and its logits."""
    net, image = Layers(), torch.randn(2, 3, 64 if name.startswith('MobileNetV1') else 32, 32)
    with torch.no_grad():
        logits = NETWORKS[name][1](net, image)
    return net.weights, image, logits


def our_config(name):
    path = ROOT / 'configs' / '_base_' / 'models' / f'{NETWORKS[name][0]}.py'
    model = Config.fromfile(path).model
    if name.startswith('VGG-8'):  # no config has it
        model.backbone.depth = 8
    return model


def classifier(backbone, classes, channels):
    head = dict(type='LinearClsHead', num_classes=classes, in_channels=channels)
    neck = dict(type='GlobalAveragePooling')
    return dict(type='ImageClassifier', backbone=backbone, neck=neck, head=head)


def run(config, weights, image):
    model = MODELS.build(dict(_scope_='mmpretrain', **config)).eval()
    model.load_state_dict(weights, strict=True)
    with torch.no_grad():
        return model(image)


def assert_same(ours, theirs):
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().max() / theirs.abs().max() < 1e-5
    assert theirs.std(0).max() > 0.01 * theirs.abs().max()  # or else anything would do


@pytest.mark.parametrize('name', NETWORKS)
def test_networks_compute_the_same(name):
    weights, image, logits = draw(name)
    assert is_classifier(weights)
    converted = convert_classifier(weights, 'file.pth')
    assert (converted.network, converted.num_classes) == (name, logits.shape[1])
    assert len(converted.state_dict) == len(weights)
    assert_same(run(our_config(name), converted.state_dict, image), logits)
    backbone = our_config(name).backbone
    assert converted.backbone['type'].endswith(backbone.pop('type'))
    assert {k: converted.backbone[k] for k in backbone} == backbone


@torch.no_grad()
@pytest.mark.parametrize('name', [*TORCHVISION, 'MobileNetV1 of timm'])
def test_other_libraries_compute_the_same(name):
    if name in TORCHVISION:
        theirs = getattr(torchvision.models, TORCHVISION[name])(weights=None, num_classes=10)
    else:
        timm = pytest.importorskip('timm', reason='needs timm, which is optional')
        theirs = timm.create_model('mobilenetv1_100', num_classes=10)
    for module in theirs.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)
            module.momentum = 1.0
    theirs(torch.randn(8, 3, 64, 64))  # statistics of their own, or else signals fade or explode
    theirs.eval()
    converted = convert_classifier(theirs.state_dict(), 'file.pth')
    assert (converted.network, converted.num_classes) == (name, 10)
    channels = converted.state_dict['head.fc.weight'].shape[1]
    image = torch.randn(2, 3, 64, 64)
    config = classifier(converted.backbone, 10, channels)
    assert_same(run(config, converted.state_dict, image), theirs(image))


def test_files_of_old_pytorch_have_no_counters():
    weights, image, logits = draw('ResNet-8x4 of the CRD benchmark')
    weights = {k: v for k, v in weights.items() if 'num_batches' not in k}
    converted = convert_classifier(weights, 'file.pth')
    assert_same(
        run(our_config('ResNet-8x4 of the CRD benchmark'), converted.state_dict, image), logits
    )


def save(weights, path):
    """As the benchmark does."""
    torch.save(dict(epoch=240, model=weights, accuracy=torch.tensor(7.0), optimizer={}), path)
    return str(path)


def test_the_tool_writes_a_checkpoint_of_the_model(tmp_path, capsys):
    name = 'WRN-40-2 of the CRD benchmark'
    weights, image, logits = draw(name)
    out = tmp_path / 'new' / 'out.pth'
    to_mmpretrain.main([save(weights, tmp_path / 'ckpt_epoch_240.pth'), str(out)])
    printed = capsys.readouterr().out
    assert f'{name}, 100 classes, {len(weights)} tensors' in printed
    assert "backbone=dict(type='diffkd_mm.CIFARWideResNet', depth=40, widen_factor=2)" in printed
    checkpoint = torch.load(out, weights_only=True)
    assert checkpoint['meta'] == dict(
        network=name,
        backbone=dict(type='diffkd_mm.CIFARWideResNet', depth=40, widen_factor=2),
        num_classes=100,
        converted_from='ckpt_epoch_240.pth',
    )
    assert_same(run(our_config(name), checkpoint['state_dict'], image), logits)


def teacher(config, checkpoint):
    config = dict(model=config, default_scope='mmpretrain')
    return FrozenTeacher(config, checkpoint).build(torch.device('cpu'))


def test_a_teacher_is_converted_while_it_is_loaded(tmp_path):
    name = 'VGG-8 of the CRD benchmark'
    weights, image, logits = draw(name)
    under_ddp = {f'module.{k}': v for k, v in weights.items()}
    path = save(under_ddp, tmp_path / 'vgg.pth')
    assert_same(teacher(our_config(name), path)(image), logits)
    with pytest.raises(DistillationError, match='vgg.pth.* does not fit its config'):
        teacher(our_config('WRN-40-1 of the CRD benchmark'), path)
    del under_ddp['module.classifier.bias']
    save(under_ddp, tmp_path / 'vgg.pth')
    with pytest.raises(DistillationError, match=r'teacher: .*a VGG-8.*1 missing: classifier\.bias'):
        teacher(our_config(name), path)


def test_another_activation_is_refused(tmp_path):
    """timm's MobileNetV1 has ReLU6, which no tensor of its file shows; ours has ReLU by default."""
    layout = next(x for x in IMAGENET_LAYOUTS if (x.family, x.origin) == ('MobileNetV1', 'of timm'))
    backbone = dict(type='diffkd_mm.MobileNetV1', act_cfg=dict(type='ReLU6'))
    right = classifier(backbone, 10, 1024)
    model = MODELS.build(dict(_scope_='mmpretrain', **right))
    weights = {f'classifier.{k}': v for k, v in model.head.fc.state_dict().items()}
    for name, tensor in model.backbone.state_dict().items():
        module, kind = name.rsplit('.', 1)
        weights[f'{layout.rename(module, model.backbone)}.{kind}'] = tensor
    torch.save(weights, tmp_path / 'timm.pth')
    path = str(tmp_path / 'timm.pth')
    wrong = classifier(dict(type='diffkd_mm.MobileNetV1'), 10, 1024)
    with pytest.raises(DistillationError, match=r"ReLU6, the backbone .* ReLU: .*'type': 'ReLU6'"):
        teacher(wrong, path)
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(teacher(right, path)(image), model.eval()(image))


@diffkd_mm.registry.MODELS.register_module()
class PlainResNet18(torchvision.models.ResNet):
    """A model that is not OpenMMLab's."""

    def __init__(self):
        super().__init__(torchvision.models.resnet.BasicBlock, [2, 2, 2, 2], num_classes=10)


def test_other_models_keep_their_own_names(tmp_path):
    torch.save(PlainResNet18().state_dict(), tmp_path / 'file.pth')
    teacher(dict(type='diffkd_mm.PlainResNet18'), str(tmp_path / 'file.pth'))


def test_files_of_openmmlab_are_left_alone():
    name = 'ResNet-8x4 of the CRD benchmark'
    weights = convert_classifier(draw(name)[0], 'file.pth').state_dict
    assert convert_published(weights, 'file.pth') is weights
    with pytest.raises(DistillationError, match='converted already'):
        convert_classifier(weights, 'file.pth')
    with pytest.raises(DistillationError, match=r'file\.pth.* no classifier .* VGG of the CRD'):
        convert_classifier({'weight': torch.ones(1)}, 'file.pth')


def meta_weights(network):
    with torch.device('meta'):
        return getattr(torchvision.models, network)(weights=None).state_dict()


@pytest.mark.parametrize(
    ('network', 'without', 'message'),
    [
        ('resnet152', '-', r'is a ResNet of \[3, 8, 36, 3\] bottlenecks of torchvision'),
        ('resnet18', 'layer4.1', r'is a ResNet of \[2, 2, 2, 1\] basic blocks of torchvision'),
        ('resnext50_32x4d', '-', r'a ResNet-50 .*layer1\.0\.conv1\.weight has shape \(128, 64, 1'),
        ('efficientnet_b0', '-', r'no classifier that can be converted'),
        ('mobilenet_v2', 'features.18', r'a MobileNetV2 of torchvision.* 5 missing: features\.18'),
    ],
)
def test_other_networks_are_named(network, without, message):
    weights = {k: v for k, v in meta_weights(network).items() if not k.startswith(without)}
    with pytest.raises(DistillationError, match=message):
        convert_classifier(weights, 'file.pth')


def test_resnet26_is_not_taken_for_resnet18():
    """It has as many blocks of each stage."""
    with torch.device('meta'):
        bottleneck = torchvision.models.resnet.Bottleneck
        weights = torchvision.models.ResNet(bottleneck, [2, 2, 2, 2]).state_dict()
    with pytest.raises(DistillationError, match=r'is a ResNet of \[2, 2, 2, 2\] bottlenecks of'):
        convert_classifier(weights, 'file.pth')


@pytest.mark.parametrize(
    ('network', 'message'),
    [
        ('efficientnet_b0', 'is a network of inverted residuals of timm, for which there is no'),
        ('mobilenetv1_100h', 'is a MobileNetV1 with one more convolution of timm, for which'),
        ('mobilenetv1_125', r'a MobileNetV1 of timm: conv_stem\.weight has shape \(40, 3, 3, 3\)'),
        ('resnet50d', 'no classifier that can be converted'),
    ],
)
def test_other_networks_of_timm_are_named(network, message):
    timm = pytest.importorskip('timm', reason='needs timm, which is optional')
    with torch.device('meta'):
        weights = timm.create_model(network).state_dict()
    with pytest.raises(DistillationError, match=message):
        convert_classifier(weights, 'file.pth')


@pytest.mark.parametrize(
    ('name', 'lost', 'message'),
    [
        ('ResNet-20', 'layer3.2', r'a ResNet of \[3, 3, 2\] blocks of the CRD'),
        ('ResNet-20', 'conv1', r'a ResNet of the CRD benchmark, has no conv1\.weight'),
        ('WRN-40-1', 'block2.layer.5', r'a wide ResNet of \[6, 5, 6\] blocks of the CRD'),
        ('VGG-13', 'block4.3', r'a VGG-13.*missing: block4\.3\.weight, block4\.3\.bias\.'),
        ('VGG-13', 'block4', r'a VGG of \[2, 2, 2, 2\] convolutions'),
    ],
)
def test_incomplete_networks_are_named(name, lost, message):
    weights = draw(f'{name} of the CRD benchmark')[0]
    weights = {k: v for k, v in weights.items() if not f'{k}.'.startswith(f'{lost}.')}
    with pytest.raises(DistillationError, match=message):
        convert_classifier(weights, 'file.pth')


@pytest.mark.parametrize(
    ('name', 'value', 'message'),
    [
        ('layer1.0.bn1.running_var', None, r'1 missing: layer1\.0\.bn1\.running_var\.'),
        ('fc.bias', None, r'1 missing: fc\.bias\.'),
        ('layer1.0.se.fc1.weight', torch.ones(1), r'1 unknown: layer1\.0\.se\.fc1\.weight\.'),
        ('conv1.weight', torch.ones(64, 3, 3, 3), r'conv1\.weight has shape \(64, 3, 3, 3\) ins'),
    ],
    ids=str,
)
def test_every_key_is_accounted_for(name, value, message):
    weights = meta_weights('resnet18')
    weights.pop(name, None)
    if value is not None:
        weights[name] = value
    with pytest.raises(DistillationError, match=f'a ResNet-18 of torchvision or timm.*{message}'):
        convert_classifier(weights, 'file.pth')


class Opaque:
    """What a safe file does not contain."""


def test_the_tool_reads_safely(tmp_path):
    path, out = tmp_path / 'last.pth', str(tmp_path / 'out.pth')
    weights = draw('ShuffleNetV1 of the CRD benchmark')[0]
    torch.save(dict(opt=Opaque(), model=weights, optimizer={}), path)
    with pytest.raises(SystemExit, match='--trust'):
        to_mmpretrain.main([str(path), out])
    to_mmpretrain.main([str(path), out, '--trust'])
    path.write_bytes(path.read_bytes()[:100_000])
    with pytest.raises(SystemExit, match='to_mmpretrain: .* is cut off: its end is missing'):
        to_mmpretrain.main([str(path), out])
    assert torch.load(out)['meta']['num_classes'] == 100
