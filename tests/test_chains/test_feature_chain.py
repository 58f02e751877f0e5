"""KDiffusion's chain against closed forms."""

import math

import pytest
import torch

from diffkd_mm.chains import KDiffusionChain
from diffkd_mm.diffusion.feature_chain import (
    add_student,
    amplitudes,
    noise_amplitude,
    posterior,
    transfer_pairs,
)


@pytest.mark.parametrize('schedule', ['cosine', 'linear'])
@pytest.mark.parametrize('sigma', [1.0, 0.3])
def test_posterior_is_gaussian_conditioning(schedule, sigma):
    """Eq. 10 against the conditional of the joint normal of (x_s, x_n) given x_0."""
    alphas = amplitudes(5, schedule)
    x_0, x_n = 0.7, -1.3
    for s in range(1, 5):
        for n in range(s + 1, 6):
            a = alphas[n] / alphas[s]
            variance_s = sigma**2 * (1 - alphas[s] ** 2)
            # x_n = a·x_s + b·x^S with b² = 1 − a², so x_n's variance is σ²·β̂_n².
            covariance, variance_n = a * variance_s, a**2 * variance_s + sigma**2 * (1 - a**2)
            assert math.isclose(variance_n, sigma**2 * (1 - alphas[n] ** 2))
            gain = covariance / variance_n
            mean = alphas[s] * x_0 + gain * (x_n - alphas[n] * x_0)
            variance = variance_s - gain * covariance
            u, v, w = posterior(alphas[n], alphas[s])
            assert math.isclose(u * x_n + v * x_0, mean, rel_tol=1e-12)
            assert math.isclose(w * sigma**2, variance, rel_tol=1e-9)


def test_the_last_step_arrives_at_the_teacher():
    alphas = amplitudes(4)
    assert posterior(alphas[1], alphas[0]) == pytest.approx((0, 1, 0))


@pytest.mark.parametrize('schedule', ['cosine', 'linear'])
def test_amplitudes_fall_from_teacher_to_student(schedule):
    alphas = amplitudes(6, schedule)
    assert len(alphas) == 7
    assert alphas[0] == 1 and abs(alphas[-1]) < 0.007
    assert all(a > b for a, b in zip(alphas, alphas[1:]))


def test_linear_amplitudes_are_roots_of_ddpms():
    """ᾱ at the middle and the end of DDPM's 1000 steps (Ho et al. 2020): 0.0786 and 4.04e-5."""
    middle, end = amplitudes(2, 'linear')[1:]
    assert middle**2 == pytest.approx(0.0786, abs=2e-4)
    assert end**2 == pytest.approx(4.04e-5, rel=1e-2)


def test_moments_of_the_forward_states():
    """x_t ~ N(α̂·x_0, β̂²·σ_S²), eq. 8."""
    torch.manual_seed(0)
    sigma, x_0 = 1.7, 0.9
    student = sigma * torch.randn(400_000, dtype=torch.float64)
    for alpha in amplitudes(5):
        state = add_student(torch.full_like(student, x_0), student, alpha)
        assert state.mean().item() == pytest.approx(alpha * x_0, abs=0.01)
        assert state.std().item() == pytest.approx(noise_amplitude(alpha) * sigma, abs=0.01)


def test_objective_is_zero_where_student_equals_teacher():
    torch.manual_seed(0)
    x = torch.randn(2, 3, 4, 4, dtype=torch.float64)
    for prediction, target in zip(*transfer_pairs([x] * 5, x, amplitudes(5), 'forward')):
        assert torch.allclose(prediction, target, atol=1e-12)


def test_objective_is_zero_for_any_noise_if_the_others_are_the_teacher():
    """The same x^S_n stands on both sides of eq. 12, so only its own prediction is wrong."""
    torch.manual_seed(0)
    x, noise = torch.randn(2, 2, 3, dtype=torch.float64)
    pairs = zip(*transfer_pairs([x] * 5, x, amplitudes(5), 'forward', noise))
    next(pairs)  # the state of the first step is the noise, in the cosine schedule of weight 0
    assert all(torch.allclose(prediction, target, atol=1e-12) for prediction, target in pairs)


def test_posterior_recursion_keeps_a_residual():
    """Where all are 1, |u·(f − x_s)| of the steps, from the recursion written out by hand."""
    one = torch.ones((), dtype=torch.float64)
    alphas = amplitudes(5)
    predictions, targets = transfer_pairs([one] * 5, one, alphas, 'posterior')
    state, expected = 1.0, []
    for s in range(5, 0, -1):
        a, b = alphas[s], alphas[s - 1]
        ratio = a / b
        u = (1 - b * b) * ratio / (1 - a * a)
        v = (1 - ratio * ratio) * b / (1 - a * a)
        expected.append(u * (a + math.sqrt(1 - a * a) - state))
        state = u * state + v
    found = [(y - x).item() for x, y in zip(predictions, targets)]
    assert found == pytest.approx(expected, abs=1e-9)
    assert max(found) > 0.1


def test_last_pair_is_last_branch_and_teacher():
    torch.manual_seed(0)
    *branches, x_0 = torch.randn(5, 2, 3)
    for state in ('forward', 'posterior'):
        predictions, targets = transfer_pairs(branches, x_0, amplitudes(4), state)
        assert torch.allclose(predictions[-1], branches[-1], atol=1e-6)
        assert torch.allclose(targets[-1], x_0, atol=1e-6)


def test_shuffle_gives_every_branch_every_step():
    torch.manual_seed(0)
    branches, teacher = [torch.full((1, 1), float(i)) for i in range(4)], torch.zeros(1, 1)
    last = {KDiffusionChain()(branches, teacher)[0][-1].item() for _ in range(60)}
    assert last == {0.0, 1.0, 2.0, 3.0}
    fixed = KDiffusionChain(shuffle=False)
    assert {fixed(branches, teacher)[0][-1].item() for _ in range(5)} == {3.0}


@pytest.mark.parametrize('state', ['forward', 'posterior'])
def test_gradients_reach_every_branch_and_not_the_teacher(state):
    torch.manual_seed(0)
    branches = [torch.randn(2, 3, requires_grad=True) for _ in range(4)]
    teacher = torch.randn(2, 3, requires_grad=True)
    predictions, targets = KDiffusionChain(state=state)(branches, teacher)
    sum((x - y).square().mean() for x, y in zip(predictions, targets)).backward()
    assert teacher.grad is None
    assert all(x.grad.abs().sum() > 0 for x in branches)
