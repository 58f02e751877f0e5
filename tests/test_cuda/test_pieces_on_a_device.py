"""Losses, connectors and chains on a device: values and gradients of float64 on the CPU."""

import inspect
import socket
from functools import cache

import pytest
import torch
import torch.distributed as dist
from computed import Values, compute, difference, distance, in_float64, to_float64
from pieces import CHANNELS, PIECES, TEACHER_CHANNELS, build
from pieces import connector as connector_piece
from tiny import AUTOCAST_DTYPES
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

import diffkd_mm
from diffkd_mm.diffusion import PCAProjection

# A share of the gradients' norm. Measured on the CPU: up to 0.03 and 0.06.
COARSE = {torch.float16: 0.15, torch.bfloat16: 0.25}
# What asks for numbers of tensors: which pixels have labels; whether there was a loss; a schedule,
# on the CPU. The U-Net is Diffusers'.
WAITING = {
    'CIRKD',
    'balance by the loss',
    'balance by the gradient',
    'KDiffusion, posterior, linear',
    'DiffKD, U-Net',
}


def needs(name: str) -> None:
    if 'U-Net' in name:
        pytest.importorskip('diffusers')


@cache
def reference(name: str) -> Values:
    piece = build(name)
    with in_float64():
        return compute(to_float64(piece.together()), piece.forward, 'cpu')


def test_every_piece_is_here():
    """All that a config can name, but for whole networks and the distiller."""
    folders = ('losses', 'connectors', 'chains', 'diffusion')
    registered = {
        x
        for folder in folders
        for x in vars(getattr(diffkd_mm, folder)).values()
        if x in diffkd_mm.registry.MODELS.module_dict.values()
    }
    built = {type(x) for name in PIECES for x in build(name).module.modules()}
    assert registered - built == {PCAProjection}  # which has a test of its own
    assert len(registered) > 20 and not any(inspect.isabstract(x) for x in registered)


@pytest.mark.parametrize('name', PIECES)
def test_float32(device, name, figure):
    needs(name)
    piece = build(name)
    found = compute(piece.together().to(device), piece.forward, device)
    share, where = difference(found, reference(name))
    assert figure('largest difference', share) <= 2e-3, where


@pytest.mark.parametrize('dtype', AUTOCAST_DTYPES)
@pytest.mark.parametrize('name', PIECES)
def test_autocast(device, name, dtype, figure):
    needs(name)
    piece = build(name)
    found = compute(piece.together().to(device), piece.forward, device, dtype)
    assert figure('gradients', distance(found, reference(name))) <= COARSE[dtype]


def test_principal_components(device, figure):
    """Up to their signs, which every library chooses by itself."""
    torch.manual_seed(0)
    # Well apart, so that rounding does not mix them.
    x = torch.randn(4, 6, 9, 9) * 2.0 ** torch.arange(6)[:, None, None]
    matrices = []
    for where, dtype in ((device, torch.float32), ('cpu', torch.float64)):
        projection = PCAProjection(6, 3).to(where, dtype)
        latent, _ = projection(x.to(where, dtype))
        assert latent.isfinite().all()
        matrices.append(projection.matrix.double().cpu().abs())
    found, expected = matrices
    assert figure('largest difference', (found - expected).abs().max().item()) <= 1e-5


@pytest.fixture
def pretends():
    """Older PyTorchs ask for a driver."""
    try:
        with FakeTensorMode():
            torch.zeros(1, device='cuda')
    except RuntimeError as error:
        pytest.skip(f'this PyTorch does not pretend a GPU: {error}')


def pretended(module: nn.Module, mode: FakeTensorMode) -> nn.Module:
    """The module with tensors that say they are on a GPU and hold nothing."""

    def fake(x: Tensor) -> Tensor:
        return mode.from_tensor(x).detach().to('cuda')

    for child in module.modules():
        for name, x in child._parameters.items():
            if x is not None:
                child._parameters[name] = nn.Parameter(fake(x), x.requires_grad)
        for name, x in child._buffers.items():
            child._buffers[name] = fake(x)
    return module


@pytest.mark.parametrize('name', [x for x in PIECES if x not in WAITING])
def test_nothing_stays_on_the_cpu_or_waits_for_the_gpu(pretends, name, monkeypatch):
    """Without a GPU: mixed devices are refused, and so is what asks for a tensor's numbers."""
    monkeypatch.setattr(torch, 'randperm', range)  # the order of branches, drawn on the CPU
    piece = build(name)
    with FakeTensorMode() as mode:
        outputs = piece.forward(pretended(piece.together(), mode))
    assert {x.device.type for x in outputs.values()} == {'cuda'}


def test_that_check_notices(pretends):
    class Wrong(nn.Module):
        def forward(self, x):
            return x + torch.ones(3) if self.mixes else x * x.sum().item()

    for mixes in (True, False):
        module = Wrong()
        module.mixes = mixes
        with FakeTensorMode(), pytest.raises(Exception, match='device|data|item|scalar'):
            module(torch.zeros(3, device='cuda'))


@pytest.fixture
def one_process(device):
    """A group of this process alone: NCCL's on a GPU, Gloo's otherwise."""
    with socket.socket() as listener:
        listener.bind(('', 0))
        port = listener.getsockname()[1]
    dist.init_process_group(
        'nccl' if device == 'cuda' else 'gloo',
        init_method=f'tcp://127.0.0.1:{port}',
        rank=0,
        world_size=1,
    )
    yield
    dist.destroy_process_group()


def test_in_a_process_group(device, one_process, figure):
    """SyncBN (on a GPU; the CPU has none) and the all-reduced statistics, alone as in no group."""
    norm = dict(type='SyncBN' if device == 'cuda' else 'BN')
    torch.manual_seed(0)
    options = dict(norm_cfg=norm, standardize='channel', latent_channels=8)
    piece = connector_piece(**options)
    found = compute(piece.together().to(device), piece.forward, device)
    torch.manual_seed(0)
    piece = connector_piece(**dict(options, norm_cfg=dict(type='BN')))
    with in_float64():
        expected = compute(to_float64(piece.together()), piece.forward, 'cpu')
    share, where = difference(found, expected)
    assert figure('largest difference', share) <= 2e-3, where
    projection = PCAProjection(TEACHER_CHANNELS, CHANNELS).to(device)
    projection(torch.randn(2, TEACHER_CHANNELS, 8, 8, device=device))
    assert projection.fitted and projection.matrix.abs().sum() > 0
