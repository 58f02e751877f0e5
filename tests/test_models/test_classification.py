"""The networks of classification are the papers': parameters, and the map before pooling."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from mmpretrain.structures import DataSample
from torch import nn

import diffkd_mm  # noqa: F401  configs name its scope

CONFIGS = Path(__file__).parents[2] / 'configs' / '_base_' / 'models'
NETWORKS = {  # parameters; channels and size of the map before pooling
    'cifar/resnet20': (278_324, 64, 8),
    'cifar/resnet56': (861_620, 64, 8),
    'cifar/resnet8x4': (1_233_540, 256, 8),
    'cifar/resnet32x4': (7_433_860, 256, 8),
    'cifar/wrn40_1': (569_780, 64, 8),
    'cifar/wrn40_2': (2_255_156, 128, 8),
    'cifar/vgg13': (9_462_180, 512, 4),
    'cifar/mobilenet_v2': (812_836, 1280, 2),
    'cifar/shufflenet_v1': (949_258, 960, 4),
    'cifar/shufflenet_v2': (1_355_528, 1024, 4),
    'cifar/resnet50': (23_705_252, 2048, 4),
    'mobilenet_v1': (4_231_976, 1024, 7),
}


def build(name, **options):
    model = Config.fromfile(CONFIGS / f'{name}.py').model
    model.backbone.update(options)
    return MODELS.build(dict(_scope_='mmpretrain', **model))


def images_for(name, batch=2):
    size = 32 if name.startswith('cifar/') else 224
    return torch.randn(batch, 3, size, size)


def test_the_table_is_complete():
    files = {f'cifar/{x.stem}' for x in (CONFIGS / 'cifar').glob('*.py')}
    assert files | {'mobilenet_v1'} == set(NETWORKS)


@pytest.mark.parametrize('name', NETWORKS)
def test_parameters_and_map_before_pooling(name):
    parameters, channels, size = NETWORKS[name]
    model = build(name).eval()
    assert sum(x.numel() for x in model.parameters()) == parameters
    assert f'{parameters:,} parameters' in (CONFIGS / f'{name}.py').read_text()
    with torch.no_grad():
        features = model.backbone(images_for(name))
    assert isinstance(features, tuple)
    assert [x.shape for x in features] == [(2, channels, size, size)]
    # Classifiers of these networks see the mean of an activated map.
    assert features[0].min() >= 0


@pytest.mark.parametrize('name', NETWORKS)
def test_a_step_reaches_every_parameter(name):
    model = build(name)
    backbone = model.backbone
    backbone.init_weights()
    samples = [DataSample().set_gt_label(i) for i in range(2)]
    model.loss(images_for(name), samples)['loss'].backward()
    assert all(x.grad.isfinite().all() for x in model.parameters())
    assert all(x.grad.any() for x in backbone.parameters() if x.ndim == 4)


def variances(backbone):
    """Of the large convolutions, whose sample variance is near the true one, but for the stem."""
    for name, conv in backbone.named_modules():
        if isinstance(conv, nn.Conv2d) and conv.weight.numel() > 4000 and 'conv1.conv' != name:
            yield conv.weight, conv.weight.var()


@pytest.mark.parametrize('name', [x for x in NETWORKS if 'shufflenet' not in x])
def test_convolutions_start_normal(name):
    backbone = build(name).backbone
    backbone.init_weights()
    for weight, variance in variances(backbone):
        fan_out = weight.shape[0] * weight[0, 0].numel()
        torch.testing.assert_close(variance * fan_out, torch.tensor(2.0), rtol=0.1, atol=0)
        assert weight.abs().max() > 3 * variance.sqrt()


@pytest.mark.parametrize('name', ['cifar/shufflenet_v1', 'cifar/shufflenet_v2'])
def test_shufflenets_start_as_pytorch_does(name):
    backbone = build(name).backbone
    backbone.init_weights()
    for weight, variance in variances(backbone):
        fan_in = weight[0].numel()
        torch.testing.assert_close(variance * fan_in, torch.tensor(1 / 3), rtol=0.1, atol=0)
        assert weight.abs().max() <= fan_in**-0.5


def test_vgg8():
    model = build('cifar/vgg13', depth=8)
    assert sum(x.numel() for x in model.parameters()) == 3_965_028


def test_mobilenet_v2_is_not_mmpretrains():
    ours = build('cifar/mobilenet_v2').backbone
    assert not any(isinstance(x, nn.ReLU6) for x in ours.modules())
    assert [x.stride[0] for x in ours.modules() if is_strided(x)] == [2, 2, 2, 2]


def is_strided(module):
    return isinstance(module, nn.Conv2d) and module.stride != (1, 1)


@pytest.mark.parametrize(
    ('name', 'depth'), [('cifar/resnet20', 21), ('cifar/wrn40_1', 41), ('cifar/vgg13', 9)]
)
def test_depths_that_do_not_exist_are_refused(name, depth):
    with pytest.raises((KeyError, ValueError), match=f'{depth}'):
        build(name, depth=depth)
