import math

import pytest
import torch

from diffkd_mm.losses import CWDLoss


@pytest.fixture
def pair():
    torch.manual_seed(0)
    return torch.randn(2, 2, 3, 4, 5).unbind(0)


def softmax(values):
    exponentials = [math.exp(v) for v in values]
    return [e / sum(exponentials) for e in exponentials]


@pytest.mark.parametrize('tau', [1.0, 4.0])
def test_formula(pair, tau):
    total = 0
    for b in range(2):
        for c in range(3):
            p_student, p_teacher = (softmax((x[b, c] / tau).flatten().tolist()) for x in pair)
            total += sum(t * math.log(t / s) for s, t in zip(p_student, p_teacher))
    expected = 3 * tau**2 / 3 * total / 2
    assert CWDLoss(tau, loss_weight=3.0)(*pair).item() == pytest.approx(expected, rel=1e-4)


def test_closed_form():
    """One channel, two positions: teacher (3/4, 1/4), student (1/2, 1/2)."""
    target = torch.tensor([[[[math.log(3), 0.0]]]])
    expected = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert CWDLoss()(torch.zeros(1, 1, 1, 2), target).item() == pytest.approx(expected, abs=1e-6)


def test_only_the_shape_of_a_channel_matters(pair):
    refined, target = pair
    assert CWDLoss()(refined, refined).item() == pytest.approx(0, abs=1e-6)
    offset = torch.randn(2, 3, 1, 1)
    torch.testing.assert_close(CWDLoss()(refined + offset, target), CWDLoss()(refined, target))
    assert not torch.isclose(CWDLoss()(2 * refined, target), CWDLoss()(refined, target))


def test_large_activations_stay_finite():
    """The difference of one softmax's logarithm: exp(±500) is out of float32's range."""
    refined = torch.tensor([[[[500.0, -500.0]]]], requires_grad=True)
    loss = CWDLoss()(refined, -refined.detach())
    loss.backward()
    torch.testing.assert_close(loss, torch.tensor(1000.0))
    torch.testing.assert_close(refined.grad, torch.tensor([[[[1.0, -1.0]]]]))


def test_gradient_reaches_the_student_alone(pair):
    refined, target = (x.requires_grad_() for x in pair)
    CWDLoss()(refined, target).backward()
    assert target.grad is None and refined.grad.abs().sum() > 0


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_is_compared_in_float32(pair, dtype):
    refined, target = (x.to(dtype) for x in pair)
    expected = CWDLoss()(refined.float(), target.float())
    with torch.autocast('cpu', torch.bfloat16):
        value = CWDLoss()(refined, target)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, expected)
