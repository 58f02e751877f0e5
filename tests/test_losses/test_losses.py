import math

import pytest
import torch
import torch.nn.functional as F

from diffkd_mm.losses import (
    CosineLoss,
    DISTLoss,
    KLDivLoss,
    MSELoss,
    WassersteinLoss,
    channel_attention,
    pearson_correlation,
    spatial_attention,
)


@pytest.fixture
def pair():
    torch.manual_seed(0)
    return torch.randn(2, 2, 5, 3, 4).unbind(0)


def test_mse_is_the_mean_over_all_elements(pair):
    refined, target = pair
    expected = 5 * sum((a - b) ** 2 for a, b in zip(refined.flatten(), target.flatten())) / 120
    torch.testing.assert_close(MSELoss(loss_weight=5.0)(refined, target), expected)


def test_spatial_attention_closed_form():
    """Two positions with mean |F| 0 and τ·ln 3: weights 2·1/4 and 2·3/4."""
    feature = torch.zeros(1, 2, 1, 2)
    feature[0, 0, 0, 1] = -2 * 0.5 * math.log(3)  # the mean over two channels halves it
    attention = spatial_attention(feature, tau=0.5)
    torch.testing.assert_close(attention, torch.tensor([[[[0.5, 1.5]]]]))
    refined = feature + torch.tensor([1.0, 2.0])
    expected = torch.tensor((0.5 * 1 + 1.5 * 4) / 2)
    torch.testing.assert_close(MSELoss(attention='spatial')(refined, feature), expected)


def test_channel_attention_closed_form():
    feature = torch.zeros(1, 2, 2, 2)
    feature[:, 1] = 0.5 * math.log(3)
    torch.testing.assert_close(channel_attention(feature).flatten(), torch.tensor([0.5, 1.5]))


@pytest.mark.parametrize('attention', ['spatial', 'channel'])
def test_attention_has_mean_one_and_no_gradient(pair, attention):
    refined, target = (x.requires_grad_() for x in pair)
    MSELoss(attention=attention)(refined, target).backward()
    assert target.grad is None and refined.grad.abs().sum() > 0
    weights = dict(spatial=spatial_attention, channel=channel_attention)[attention](target)
    assert weights.mean().item() == pytest.approx(1, abs=1e-6)


def test_unknown_attention():
    with pytest.raises(ValueError, match="attention='spacial'"):
        MSELoss(attention='spacial')


def test_kl_closed_form():
    """Teacher (3/4, 1/4), student (1/2, 1/2)."""
    target = torch.tensor([[math.log(3), 0.0]])
    expected = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert KLDivLoss()(torch.zeros(1, 2), target).item() == pytest.approx(expected, abs=1e-6)
    tau = 4.0
    assert KLDivLoss(tau=tau)(torch.zeros(1, 2), tau * target).item() == pytest.approx(
        tau**2 * expected, abs=1e-5
    )


def test_kl_direction(pair):
    """KL(teacher‖student) is not KL(student‖teacher)."""
    a, b = (x[:, :, 0, 0] for x in pair)
    expected = (b.softmax(1) * (b.log_softmax(1) - a.log_softmax(1))).sum(1).mean()
    torch.testing.assert_close(KLDivLoss()(a, b), expected)
    assert not torch.isclose(KLDivLoss()(a, b), KLDivLoss()(b, a))


@pytest.mark.parametrize('loss', [KLDivLoss(), DISTLoss()])
def test_pixels_of_a_map_are_samples(pair, loss):
    refined, target = pair
    as_samples = [x.permute(0, 2, 3, 1).reshape(-1, 5) for x in (refined, target)]
    torch.testing.assert_close(loss(refined, target), loss(*as_samples))


def test_dist_against_numpy(pair):
    numpy = pytest.importorskip('numpy')
    a, b = (F.softmax(x[:, :, 0], dim=1).permute(0, 2, 1).reshape(-1, 5).numpy() for x in pair)
    inter = 1 - numpy.mean([numpy.corrcoef(x, y)[0, 1] for x, y in zip(a, b)])
    intra = 1 - numpy.mean([numpy.corrcoef(x, y)[0, 1] for x, y in zip(a.T, b.T)])
    refined, target = (x[:, :, :1] for x in pair)
    actual = DISTLoss(beta=2.0, gamma=3.0)(refined, target)
    assert actual.item() == pytest.approx(2 * inter + 3 * intra, abs=1e-5)


def test_dist_ignores_scale_and_shift_of_scores():
    x = torch.rand(4, 6)
    torch.testing.assert_close(pearson_correlation(x, 3 * x + 1), torch.ones(4))
    assert torch.isfinite(pearson_correlation(torch.ones(4, 6), x)).all()


def test_gradient_of_the_correlation():
    """It is written by hand; where all values are equal it is that of a norm, 0."""
    x, y = torch.rand(2, 4, 6, dtype=torch.double)
    x.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: pearson_correlation(x, y), x)
    constant = torch.ones(4, 6, requires_grad=True)
    pearson_correlation(constant, constant.detach()).sum().backward()
    assert (constant.grad == 0).all()


def test_dist_temperature(pair):
    refined, target = pair
    torch.testing.assert_close(
        DISTLoss(tau=4.0)(4 * refined, 4 * target), 16 * DISTLoss()(refined, target)
    )


def test_cosine_closed_form():
    """At the three positions: the same direction, a right angle, the opposite direction."""
    refined = torch.tensor([[3.0, 0.0], [3.0, 0.0], [3.0, 0.0]]).t()[None, :, None]
    target = torch.tensor([[0.5, 0.0], [0.0, 2.0], [-1.0, 0.0]]).t()[None, :, None]
    assert CosineLoss(loss_weight=6.0)(refined, target).item() == pytest.approx(6.0)
    vectors = refined[0, :, 0].t(), target[0, :, 0].t()
    assert CosineLoss()(*vectors).item() == pytest.approx(1.0)


def test_wasserstein_closed_form(pair):
    """A shift by 2 costs 4 wherever the values are; another order of the positions, nothing."""
    refined, _ = pair
    shuffled = refined.flatten(2)[..., torch.randperm(12)].view_as(refined)
    assert WassersteinLoss()(refined, shuffled) == 0
    assert WassersteinLoss(5.0)(refined + 2, shuffled).item() == pytest.approx(20, rel=1e-5)


def test_wasserstein_is_the_cheapest_transport(pair):
    """Against the assignment problem of every channel, solved by scipy."""
    scipy = pytest.importorskip('scipy.optimize')
    costs = []
    for x, y in zip(*(x.flatten(0, 1).flatten(1) for x in pair)):
        cost = (x[:, None] - y[None]).square().numpy()
        costs.append(cost[scipy.linear_sum_assignment(cost)].mean())
    assert WassersteinLoss()(*pair).item() == pytest.approx(sum(costs) / 10, rel=1e-5)


@pytest.mark.parametrize('loss', [CosineLoss(), WassersteinLoss()])
def test_only_the_student_learns(pair, loss):
    refined, target = (x.requires_grad_() for x in pair)
    loss(refined, target).backward()
    assert target.grad is None and refined.grad.abs().sum() > 0


@pytest.mark.parametrize(
    'loss',
    [
        MSELoss(),
        MSELoss('spatial'),
        KLDivLoss(),
        DISTLoss(),
        CosineLoss(),
        WassersteinLoss(),
    ],
)
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_is_compared_in_float32(pair, loss, dtype):
    refined, target = (300 * x.to(dtype) for x in pair)  # squares overflow float16
    value = loss(refined, target)
    assert value.dtype == torch.float32 and torch.isfinite(value)
    torch.testing.assert_close(value, loss(refined.float(), target.float()))
