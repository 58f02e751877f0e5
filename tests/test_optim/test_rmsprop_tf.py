"""RMSProp of TensorFlow against its formula, and against PyTorch's where they differ."""

import math
from copy import deepcopy

import numpy as np
import pytest
import torch
from mmengine.optim import build_optim_wrapper
from torch import nn

from diffkd_mm.optim import RMSpropTF


def parameter(*values):
    return nn.Parameter(torch.tensor(values, dtype=torch.float64))


def take_step(optimizer, weight, grad):
    """Takes a step with this gradient and returns by how much the weight changed."""
    before = weight.detach().clone()
    weight.grad = torch.as_tensor(grad, dtype=weight.dtype).expand_as(weight).clone()
    optimizer.step()
    return before - weight.detach()


def test_two_steps_by_hand():
    weight = parameter(1.0)
    optimizer = RMSpropTF([weight], lr=0.1, alpha=0.9, eps=0.001, momentum=0.5)
    first = 0.1 * 2 / math.sqrt(0.9 * 1 + 0.1 * 4 + 0.001)
    assert take_step(optimizer, weight, 2.0).item() == pytest.approx(first, rel=1e-12)
    second = 0.5 * first + 0.1 * -3 / math.sqrt(0.9 * 1.3 + 0.1 * 9 + 0.001)
    assert take_step(optimizer, weight, -3.0).item() == pytest.approx(second, rel=1e-12)


@pytest.mark.parametrize('momentum', [0.0, 0.9])
@pytest.mark.parametrize('weight_decay', [0.0, 0.1])
def test_against_numpy(momentum, weight_decay):
    generator = np.random.default_rng(0)
    expected = generator.normal(size=(3, 2))
    weight = nn.Parameter(torch.from_numpy(expected.copy()))
    options = dict(alpha=0.8, eps=1e-3, momentum=momentum, weight_decay=weight_decay)
    optimizer = RMSpropTF([weight], lr=1.0, **options)
    square_avg, buffer = np.ones((3, 2)), np.zeros((3, 2))
    for step in range(20):
        lr = optimizer.param_groups[0]['lr'] = 0.1 * 0.9**step
        grad = generator.normal(size=(3, 2))
        weight.grad = torch.from_numpy(grad.copy())
        optimizer.step()
        grad = grad + weight_decay * expected
        square_avg = 0.8 * square_avg + 0.2 * grad**2
        buffer = momentum * buffer + lr * grad / np.sqrt(square_avg + 1e-3)
        expected = expected - buffer
        np.testing.assert_allclose(weight.detach().numpy(), expected, rtol=1e-12)


def optimizers(**options):
    weights = [parameter(1.0) for _ in range(2)]
    return [(c([w], **options), w) for c, w in zip((RMSpropTF, torch.optim.RMSprop), weights)]


def test_first_step_is_not_pytorchs():
    """The average starts at 1: a small gradient makes a small step and not lr/√(1 − α)."""
    ours, theirs = (take_step(*x, 1e-3) for x in optimizers(lr=0.1, alpha=0.9, eps=0.0))
    assert ours.item() == pytest.approx(0.1 * 1e-3 / math.sqrt(0.9), rel=1e-6)
    assert theirs.item() == pytest.approx(0.1 / math.sqrt(0.1), rel=1e-6)


def test_epsilon_is_inside_the_root():
    """Once the beginning is forgotten, the gradient is 0.1 and v is 0.01."""
    pairs = optimizers(lr=1.0, alpha=0.5, eps=0.03)
    ours, theirs = ([take_step(*x, 0.1).item() for _ in range(100)][-1] for x in pairs)
    assert ours == pytest.approx(0.1 / math.sqrt(0.01 + 0.03), rel=1e-9)
    assert theirs == pytest.approx(0.1 / (0.1 + 0.03), rel=1e-9)


def test_buffer_remembers_the_learning_rate():
    """After the rate fell to 0, what the buffer holds still moves the weight; PyTorch stops."""
    moved = []
    for optimizer, weight in optimizers(lr=1.0, momentum=0.9):
        before = take_step(optimizer, weight, 1.0)
        optimizer.param_groups[0]['lr'] = 0.0
        moved.append((take_step(optimizer, weight, 1.0) / before).item())
    assert moved == [pytest.approx(0.9), 0.0]


def test_agrees_with_pytorchs_in_the_end():
    pairs = optimizers(lr=0.1, alpha=0.9, eps=0.0, momentum=0.5)
    ours, theirs = ([take_step(*x, -4.0).item() for _ in range(400)] for x in pairs)
    assert ours[-1] == pytest.approx(theirs[-1], rel=1e-9) and ours[0] != theirs[0]


def test_resumed_training_continues():
    weight = parameter(1.0, -2.0)
    optimizer = RMSpropTF([weight], momentum=0.9)
    take_step(optimizer, weight, 0.3)
    copy = nn.Parameter(weight.detach().clone())
    resumed = RMSpropTF([copy], lr=1.0)
    resumed.load_state_dict(deepcopy(optimizer.state_dict()))
    moved = [take_step(*x, -0.7) for x in ((optimizer, weight), (resumed, copy))]
    assert torch.equal(*moved) and torch.equal(weight, copy)


def test_parameters_without_gradient_and_closure():
    used, unused = parameter(1.0), parameter(1.0)
    optimizer = RMSpropTF([used, unused])

    def closure():
        optimizer.zero_grad()
        loss = (used**2).sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 1.0
    assert used.item() < 1.0 and unused.item() == 1.0 and unused not in optimizer.state


@pytest.mark.parametrize(
    'options', [dict(lr=-1.0), dict(alpha=1.0), dict(momentum=1.5), dict(eps=-1e-3)]
)
def test_options_out_of_range(options):
    (name, value), *_ = options.items()
    with pytest.raises(ValueError, match=f'{name}={value}'):
        RMSpropTF([parameter(1.0)], **options)


def test_built_from_a_config():
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    cfg = dict(
        optimizer=dict(type='diffkd_mm.RMSpropTF', lr=0.048, weight_decay=1e-5),
        paramwise_cfg=dict(flat_decay_mult=0.0),
    )
    optimizer = build_optim_wrapper(model, cfg).optimizer
    assert type(optimizer) is RMSpropTF
    decays = [group['weight_decay'] for group in optimizer.param_groups]
    assert decays == [1e-5, 0.0, 0.0, 0.0]
