"""The connector's short cuts change its speed and memory, and nothing else."""

from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F

from diffkd_mm.analysis.connector_speed import ConnectorWithLoss, PlainDiffKD
from diffkd_mm.analysis.timing import saved_storages
from diffkd_mm.connectors import DiffKDConnector
from diffkd_mm.diffusion import fused, side_by_side
from diffkd_mm.diffusion.ddim import gaussian_noise
from diffkd_mm.diffusion.layers import Bottleneck, PointwiseConv

SIZES = [(12, 16), (6, 8), (3, 4)]
CHANNELS = 32


def inputs(dtype, batch=2):
    generator = torch.Generator().manual_seed(1)
    students, teachers = (
        [torch.randn(batch, CHANNELS, *size, generator=generator, dtype=dtype) for size in SIZES]
        for _ in range(2)
    )
    return [2 * x + 1 for x in students], [3 * x - 2 for x in teachers]


def trained_a_little(**options):
    """A connector whose parameters and statistics are not those of the initialisation."""
    torch.manual_seed(0)
    connector = DiffKDConnector(CHANNELS, CHANNELS, num_levels=len(SIZES), **options)
    for parameter in connector.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    return connector


def step(model, connector, dtype, batch=2):
    """Everything that a training step leaves behind."""
    students, teachers = inputs(dtype, batch)
    students = [x.requires_grad_() for x in students]
    torch.manual_seed(2)
    refined, loss_kd, loss_diff = model(students, teachers)
    (loss_kd + loss_diff).backward()
    found = {f'refined.{i}': x.detach() for i, x in enumerate(refined)}
    found.update({f'students.{i}': x.grad for i, x in enumerate(students)})
    found.update({f'grad.{n}': p.grad for n, p in connector.named_parameters()})
    found.update({n: b.clone() for n, b in connector.named_buffers()})
    return {**found, 'loss_kd': loss_kd.detach(), 'loss_diff': loss_diff.detach()}


def assert_close(found, expected, tolerance):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        scale = max(value.double().abs().max().item(), 1)
        error = (found[name].double() - value.double()).abs().max().item()
        assert error <= tolerance * scale, f'{name}: {error} of {scale}'


@pytest.fixture(params=[(torch.float32, 1e-4), (torch.float64, 1e-9)], ids=['float32', 'float64'])
def precision(request, monkeypatch):
    if request.param[0] is torch.float64:  # the connector computes losses in float32 otherwise
        monkeypatch.setattr(torch.Tensor, 'float', torch.Tensor.double)
    return request.param


@pytest.fixture(params=['cpu', 'gpu'])
def path(request, monkeypatch):
    """The path of either device, on the CPU."""
    if request.param == 'gpu':
        monkeypatch.setattr(fused, 'is_on_cpu', lambda x: False)
    return request.param


@pytest.mark.parametrize('batch', [1, 2])
def test_equals_plain_implementation(precision, path, batch):
    dtype, tolerance = precision
    connector = trained_a_little().to(dtype)
    plain = deepcopy(connector)
    model = PlainDiffKD(plain, gaussian_noise)
    # Diffusers computes the square roots of its float32 table in float32.
    model.scheduler.alphas_cumprod = model.scheduler.alphas_cumprod.to(dtype)
    expected = step(model, plain, dtype, batch)
    assert_close(step(ConnectorWithLoss(connector), connector, dtype, batch), expected, tolerance)
    assert expected['levels.0.denoiser.net.0.block.7.num_batches_tracked'] == 6
    assert expected['grad.levels.0.denoiser.net.0.block.0.weight'].abs().sum() > 0


@pytest.mark.parametrize('kd_trains_denoiser', [True, False])
@pytest.mark.parametrize(
    'norm_cfg', [dict(type='BN'), dict(type='BN', momentum=None), dict(type='SyncBN')], ids=str
)
def test_checkpointing_changes_nothing(precision, path, kd_trains_denoiser, norm_cfg):
    dtype, tolerance = precision
    connector = trained_a_little(kd_trains_denoiser=kd_trains_denoiser, norm_cfg=norm_cfg)
    connector = connector.to(dtype)
    checkpointed = deepcopy(connector)
    for level in checkpointed.levels:
        level.with_cp = True
    expected = step(ConnectorWithLoss(connector), connector, dtype)
    found = step(ConnectorWithLoss(checkpointed), checkpointed, dtype)
    assert_close(found, expected, tolerance)


def saved_bytes(model, connector):
    students, teachers = inputs(torch.float32)
    with saved_storages(list(connector.parameters())) as storages:
        model([x.requires_grad_() for x in students], teachers)
    return sum(storages.values())


def test_checkpointing_saves_memory():
    connector, checkpointed = (trained_a_little(with_cp=x) for x in (False, True))
    saved = saved_bytes(ConnectorWithLoss(connector), connector)
    assert saved_bytes(ConnectorWithLoss(checkpointed), checkpointed) <= 0.4 * saved
    assert saved <= 0.9 * saved_bytes(PlainDiffKD(connector), connector)


@pytest.mark.parametrize('batch', [1, 3])
@pytest.mark.parametrize('norm_cfg', [dict(type='BN', momentum=None), dict(type='GN')], ids=str)
@pytest.mark.parametrize('training', [True, False])
def test_bottleneck_equals_its_layers(batch, norm_cfg, training):
    torch.manual_seed(0)
    bottleneck = Bottleneck(16, norm_cfg=norm_cfg).double().train(training)
    reference = deepcopy(bottleneck)
    for _ in range(3):  # an average over all batches takes more than one to be wrong
        x = torch.randn(batch, 16, 5, 7, dtype=torch.float64) + 1
        torch.testing.assert_close(bottleneck(x), reference.block(x) + x)
    for found, expected in zip(bottleneck.buffers(), reference.buffers()):
        torch.testing.assert_close(found, expected)


def test_bias_before_batch_norm_has_a_gradient_of_zero():
    bottleneck = Bottleneck(16)
    bottleneck(torch.randn(2, 16, 4, 4)).square().sum().backward()
    assert torch.count_nonzero(bottleneck.block[6].bias.grad) == 0


def test_bottleneck_under_autocast():
    torch.manual_seed(0)
    bottleneck = Bottleneck(16)
    reference = deepcopy(bottleneck)
    x = torch.randn(2, 16, 9, 9)
    with torch.autocast('cpu', torch.bfloat16):
        torch.testing.assert_close(bottleneck(x), reference.block(x) + x)


def test_gaussian_noise_follows_map():
    x = torch.empty(4, 64, 32, 32, dtype=torch.float64)
    noise = gaussian_noise(x)
    assert noise.shape == x.shape and noise.dtype == x.dtype
    assert noise.is_contiguous(memory_format=torch.channels_last)
    assert abs(noise.mean()) < 0.01 and abs(noise.std() - 1) < 0.01


def test_pointwise_conv_is_a_convolution():
    conv = PointwiseConv(6, 4)
    x = torch.randn(2, 6, 5, 3)
    expected = F.conv2d(x, conv.weight, conv.bias)
    torch.testing.assert_close(conv(x), expected)
    channels_last = conv(x.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(channels_last, expected)
    assert channels_last.is_contiguous(memory_format=torch.channels_last)


def levels_and_maps(channels=(16, 16, 16)):
    torch.manual_seed(0)
    networks = [Bottleneck(x).double() for x in channels]
    maps = [torch.randn(2, c, *size, dtype=torch.float64) for c, size in zip(channels, SIZES)]
    return networks, [x.requires_grad_() for x in maps]


@pytest.mark.parametrize('channels', [(16, 16, 16), (16, 24, 16)], ids=str)
def test_side_by_side_equals_one_by_one(path, channels):
    """One of the maps has a channel that is constant, whose variance is zero."""
    networks, maps = levels_and_maps(channels)
    with torch.no_grad():
        maps[0][:, 3] = 2
        networks[1].block[6].weight[3] = 0
    twins = deepcopy(networks)
    found = side_by_side.run_side_by_side(networks, maps)
    expected = [twin.block(x) + x for twin, x in zip(twins, maps)]
    weights = [torch.randn_like(x) for x in found]
    gradients = []
    for outputs, modules in ((found, networks), (expected, twins)):
        parameters = [x for module in modules for x in module.parameters()]
        loss = sum((x * weight).sum() for x, weight in zip(outputs, weights))
        gradients.append(torch.autograd.grad(loss, [*maps, *parameters]))
    torch.testing.assert_close(list(found), expected)
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-9, atol=1e-9)
    for module, twin in zip(networks, twins):
        torch.testing.assert_close(list(module.buffers()), list(twin.buffers()))


@pytest.mark.parametrize('listener', ['', 'block.2'])
def test_side_by_side_hooks_are_called(monkeypatch, listener):
    monkeypatch.setattr(fused, 'is_on_cpu', lambda x: False)
    networks, maps = levels_and_maps()
    calls = []
    for network in networks:
        network.get_submodule(listener).register_forward_hook(lambda *args: calls.append(args))
    side_by_side.run_all(networks, maps)
    assert len(calls) == 3


@pytest.mark.parametrize('number', [6, 7])
def test_folded_layers_with_hooks_are_called(number):
    """On the CPU, where convolution and norm are one product otherwise."""
    networks, maps = levels_and_maps()
    calls = []
    bottlenecks = [x for net in networks for x in net.modules() if isinstance(x, Bottleneck)]
    for bottleneck in bottlenecks:
        layer = bottleneck.block[number]
        layer.register_forward_hook(lambda *args: calls.append(args))
    side_by_side.run_all(networks, maps)
    assert len(calls) == len(bottlenecks) > 0
    bottlenecks[0](maps[0])
    assert len(calls) == len(bottlenecks) + 1


def test_a_network_of_all_levels_is_not_run_side_by_side(monkeypatch):
    monkeypatch.setattr(fused, 'is_on_cpu', lambda x: False)
    networks, maps = levels_and_maps()
    assert side_by_side.can_run_side_by_side(networks)
    assert not side_by_side.can_run_side_by_side(networks[:1] * 3)
    shared, twin = (trained_a_little(shared=True) for _ in range(2))
    found = step(ConnectorWithLoss(shared), shared, torch.float32)
    monkeypatch.undo()
    assert_close(found, step(ConnectorWithLoss(twin), twin, torch.float32), 1e-4)
