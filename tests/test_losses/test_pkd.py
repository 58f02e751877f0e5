import math

import pytest
import torch

from diffkd_mm.losses import PKDLoss


@pytest.fixture
def pair():
    torch.manual_seed(0)
    return torch.randn(2, 2, 3, 4, 5).unbind(0)


def correlation(a, b):
    """Pearson's correlation of two lists of numbers."""
    mean_a, mean_b = sum(a) / len(a), sum(b) / len(b)
    covariance = sum((x - mean_a) * (y - mean_b) for x, y in zip(a, b))
    spread = sum((x - mean_a) ** 2 for x in a) * sum((y - mean_b) ** 2 for y in b)
    return covariance / math.sqrt(spread)


def test_is_one_minus_the_mean_correlation_of_channels(pair):
    rs = [correlation(*(x[:, c].flatten().tolist() for x in pair)) for c in range(3)]
    expected = 6 * (1 - sum(rs) / 3)
    assert PKDLoss(loss_weight=6.0)(*pair).item() == pytest.approx(expected, abs=1e-5)


def test_statistics_are_those_of_the_batch(pair):
    """Samples with different means: standardised one by one, this would be 0."""
    refined, _ = pair
    target = refined + torch.tensor([0.0, 5.0])[:, None, None, None]
    assert PKDLoss()(refined, target) > 0.1


def test_scale_and_offset_of_channels_do_not_matter(pair):
    refined, target = pair
    scale, offset = torch.tensor([0.1, 1.0, 20.0]), torch.tensor([-3.0, 0.0, 7.0])
    moved = refined * scale[:, None, None] + offset[:, None, None]
    torch.testing.assert_close(PKDLoss()(moved, target), PKDLoss()(refined, target))
    torch.testing.assert_close(PKDLoss()(moved, refined), torch.zeros(()), atol=1e-5, rtol=0)
    torch.testing.assert_close(PKDLoss()(-moved, refined), torch.tensor(2.0))


def test_constant_channels_and_single_values_stay_finite():
    for shape in [(2, 3, 4, 5), (1, 3, 1, 1)]:
        refined = torch.full(shape, 3.3, requires_grad=True)
        loss = PKDLoss()(refined, torch.randn(shape))
        loss.backward()
        assert torch.isfinite(loss) and torch.isfinite(refined.grad).all()


def test_gradient_reaches_the_student_alone(pair):
    refined, target = (x.requires_grad_() for x in pair)
    PKDLoss()(refined, target).backward()
    assert target.grad is None and refined.grad.abs().sum() > 0


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_is_compared_in_float32(pair, dtype):
    refined, target = (3000 * x.to(dtype) for x in pair)  # the variance overflows float16
    value = PKDLoss()(refined, target)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, PKDLoss()(refined.float(), target.float()))
