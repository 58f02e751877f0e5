"""The pull of a denoiser that is not passed through."""

from copy import deepcopy
from typing import get_type_hints

import pytest
import torch
from torch import nn

from diffkd_mm.connectors import DiffKDConnector, ScoreGuidanceConnector
from diffkd_mm.diffusion import VectorDenoiser

SIZES = [(8, 6), (4, 3)]


def features(channels, mean=0.0, batch=4):
    return [mean + torch.randn(batch, channels, *size) for size in SIZES]


def reached(connector):
    return {
        name.split('.')[2]
        for name, parameter in connector.named_parameters()
        if parameter.grad is not None and parameter.grad.any()
    }


def test_gradient_of_the_guidance_is_what_is_taken_for_noise_beyond_it():
    class Half(nn.Module):
        def forward(self, x, timesteps):
            return x / 2

    connector = ScoreGuidanceConnector(6, 6, num_levels=2)
    for level in connector.levels:
        level.denoiser = Half()
    sample = torch.randn(4, 6, 8, 6, requires_grad=True)
    torch.manual_seed(1)
    connector._pull(Half(), sample).backward()
    torch.manual_seed(1)
    noise = torch.randn(4, 8, 6, 6).permute(0, 3, 1, 2)
    timesteps = torch.randint(1000, (4,))
    alpha = connector.sampler.alphas_cumprod[timesteps][:, None, None, None]
    noisy = alpha.sqrt() * sample + (1 - alpha).sqrt() * noise
    torch.testing.assert_close(sample.grad, (noisy / 2 - noise).detach() / sample.numel())


@pytest.mark.parametrize('options', [{}, dict(shared=True), dict(latent_channels=3)])
def test_who_is_trained_by_what(options):
    connector = ScoreGuidanceConnector(6, 8, num_levels=2, **options)
    students = [x.requires_grad_() for x in features(6)]
    projected, targets, losses = connector(students, features(8))
    assert [x.shape for x in projected] == [x.shape for x in targets]
    losses['loss_guidance'].backward()
    assert reached(connector) == {'student_projection'} and students[1].grad.any()
    connector.zero_grad()
    losses['loss_diff'].backward()
    assert reached(connector) == {'denoiser'}


@pytest.mark.parametrize(
    'options', [dict(denoiser=dict(type='VectorDenoiser')), dict(vectors=True)]
)
def test_vectors(options):
    connector = ScoreGuidanceConnector(5, 7, num_levels=1, **options)
    assert isinstance(connector.levels[0].denoiser, VectorDenoiser)
    projected, targets, losses = connector([torch.randn(4, 5)], [torch.randn(4, 7)])
    assert projected[0].shape == targets[0].shape == (4, 7)
    assert set(losses) == {'loss_diff', 'loss_guidance'}


def test_options_that_it_shares_with_diffkd_are_checked_and_found_alike():
    hints, theirs = (
        get_type_hints(x.__init__, include_extras=True)
        for x in (ScoreGuidanceConnector, DiffKDConnector)
    )
    own = {'loss_guidance_weight', 'loss_diff_weight'}  # the second: above 0
    assert {k: v for k, v in hints.items() if k not in own}.items() <= theirs.items()
    connector = ScoreGuidanceConnector([6, 3], [8, 4], num_levels=2)
    features = [torch.randn(4, 6, 8, 6), torch.randn(4, 3, 4, 3)]
    projected, *_ = connector(features, [torch.randn(4, 8, 8, 6), torch.randn(4, 4, 4, 3)])
    assert [x.size(1) for x in projected] == [8, 4]


def test_pulls_towards_the_teachers_features():
    """The teacher's channels are all alike; those of samples that are not become more alike."""
    connector = ScoreGuidanceConnector(8, 8, num_levels=1)
    untrained = deepcopy(connector.levels[0].denoiser)
    denoiser = connector.levels[0].denoiser
    optimizer = torch.optim.Adam(denoiser.parameters(), lr=1e-2)
    for _ in range(100):
        optimizer.zero_grad()
        teacher = torch.randn(16, 1, 4, 4).expand(-1, 8, -1, -1)
        connector.teacher_losses([teacher])['loss_diff'].backward()
        optimizer.step()
    left = []
    for network in (denoiser, untrained):
        sample = torch.randn(32, 8, 4, 4).requires_grad_()
        before = sample.var(1).mean()
        for _ in range(100):
            (gradient,) = torch.autograd.grad(connector._pull(network, sample), sample)
            sample = (sample - 0.02 * sample.numel() * gradient).detach().requires_grad_()
        left.append(sample.var(1).mean() / before)
    assert left[0] < 0.6 < 0.9 < left[1]
