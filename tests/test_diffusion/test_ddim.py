import math
import re
from pathlib import Path

import pytest
import torch
from diffusers import DDIMScheduler

from diffkd_mm.diffusion import DDIMSampler

METHOD = Path(__file__).parents[2] / 'docs' / 'method.md'


def diffusers_scheduler(num_inference_steps):
    scheduler = DDIMScheduler(
        num_train_timesteps=1000,
        beta_start=1e-4,
        beta_end=0.02,
        beta_schedule='linear',
        clip_sample=False,
        set_alpha_to_one=True,
    )
    # The walk covers the lower half of a schedule of twice the steps.
    scheduler.set_timesteps(2 * num_inference_steps)
    return scheduler


@pytest.mark.parametrize('num_inference_steps', [1, 3, 5, 10, 20])
def test_walk_agrees_with_diffusers(num_inference_steps):
    sampler = DDIMSampler(num_inference_steps)
    scheduler = diffusers_scheduler(num_inference_steps)
    timesteps = scheduler.timesteps[num_inference_steps:]
    assert sampler.timesteps == timesteps.tolist()

    torch.manual_seed(0)
    weight = torch.randn(6, 6, dtype=torch.float64) / 6

    def predict_noise(x, t):
        return torch.tanh(torch.einsum('oc,bchw->bohw', weight, x)) * (
            1 + t.double().view(-1)[0] / 1000
        )

    start = torch.randn(2, 6, 4, 5, dtype=torch.float64)
    expected = start
    for t in timesteps:
        expected = scheduler.step(predict_noise(expected, t), t, expected).prev_sample
    actual = sampler.denoise(start, predict_noise)
    assert actual.dtype == torch.float64
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-6)


def test_timesteps():
    assert DDIMSampler(5).timesteps == [400, 300, 200, 100, 0]
    first = [DDIMSampler(n).timesteps[0] for n in (1, 3, 5, 10, 20)]
    assert first == [0, 332, 400, 450, 475]
    assert DDIMSampler(4, initial_timestep=202).timesteps == [150, 100, 50, 0]


def test_literal_start():
    """B.1's initial timestep is where the walk begins, with any number of evaluations."""
    walks = {n: DDIMSampler(n, timestep_spacing='trailing').timesteps for n in (1, 3, 5, 10)}
    assert walks[1] == [500] and walks[3] == [500, 334, 168]
    assert walks[5] == [500, 400, 300, 200, 100]
    assert walks[10] == list(range(500, 0, -50))


def test_walk_from_the_literal_start_agrees_with_diffusers():
    """All steps but the last, for which diffusers has ᾱ_0 in place of 1."""
    sampler, scheduler = DDIMSampler(5, timestep_spacing='trailing'), diffusers_scheduler(5)
    torch.manual_seed(0)
    start = expected = torch.randn(2, 3, 2, 2, dtype=torch.float64)
    for t in (500, 400, 300, 200):
        expected = scheduler.step(expected.sin(), t, expected).prev_sample
    alpha = scheduler.alphas_cumprod[100].double()
    expected = (expected - (1 - alpha).sqrt() * expected.sin()) / alpha.sqrt()
    actual = sampler.denoise(start, lambda x, t: x.sin())
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-6)


def whole_run(sampler):
    """What all steps make of z and of a prediction ε̂ that stays the same: a·z − b·ε̂."""
    one, zero = torch.ones(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    a = sampler.denoise(one, lambda x, t: zero).item()
    return a, -sampler.denoise(zero, lambda x, t: one).item()


def test_table_of_whole_runs():
    """The rows of docs/method.md: spacing, N, timesteps, a, b."""
    rows = re.findall(
        r"\| `'(\w+)'` \| (\d+) \| ([\d, …]+?) \| z·([\d.]+) − ([\d.]+)·ε̂ \|", METHOD.read_text()
    )
    assert len(rows) >= 9
    for spacing, n, timesteps, *factors in rows:
        sampler = DDIMSampler(int(n), timestep_spacing=spacing)
        first, *_, last = timesteps.replace('…', ',').split(', ') * 2
        assert (int(first), int(last)) == (sampler.timesteps[0], sampler.timesteps[-1])
        for factor, value in zip(factors, whole_run(sampler)):
            assert float(factor) == pytest.approx(
                value, abs=0.51 * 10 ** -len(factor.split('.')[1])
            )


def test_a_whole_run_depends_on_its_start_alone():
    sampler = DDIMSampler(5)
    alpha = sampler.alphas_cumprod[400].item()
    a, b = whole_run(sampler)
    assert a == pytest.approx(alpha**-0.5, rel=1e-6)
    assert b == pytest.approx((1 / alpha - 1) ** 0.5, rel=1e-6)


def test_add_noise_agrees_with_diffusers():
    torch.manual_seed(0)
    x, noise = torch.randn(2, 4, 3, 5, 5, dtype=torch.float64).unbind(0)
    t = torch.tensor([0, 17, 500, 999])
    expected = diffusers_scheduler(5).add_noise(x, noise, t)
    torch.testing.assert_close(DDIMSampler().add_noise(x, noise, t), expected, rtol=0, atol=1e-6)


def test_schedule_closed_form():
    alphas_cumprod = DDIMSampler().alphas_cumprod
    log = sum(math.log1p(-(1e-4 + (0.02 - 1e-4) * i / 999)) for i in range(1000))
    assert alphas_cumprod.dtype == torch.float32
    assert alphas_cumprod[0].item() == pytest.approx(1 - 1e-4, abs=1e-7)
    assert alphas_cumprod[-1].item() == pytest.approx(math.exp(log), rel=1e-4)


def test_true_noise_gives_the_clean_sample():
    """With the noise that was added, the walk from the first timestep ends where it began."""
    torch.manual_seed(0)
    sampler = DDIMSampler(5)
    x, noise = torch.randn(2, 3, 4, 2, 2, dtype=torch.float64).unbind(0)
    noisy = sampler.add_noise(x, noise, torch.full((3,), sampler.timesteps[0]))
    torch.testing.assert_close(sampler.denoise(noisy, lambda *_: noise), x, rtol=0, atol=1e-5)


@pytest.mark.parametrize('num_inference_steps', [0, -1, 501])
def test_impossible_number_of_steps(num_inference_steps):
    with pytest.raises(ValueError, match=f'num_inference_steps={num_inference_steps}'):
        DDIMSampler(num_inference_steps)


@pytest.mark.parametrize(
    'options',
    [dict(initial_timestep=0), dict(initial_timestep=1000), dict(timestep_spacing='linspace')],
)
def test_impossible_start(options):
    ((name, value),) = options.items()
    with pytest.raises(ValueError, match=f'{name}={value!r}'):
        DDIMSampler(**options)
