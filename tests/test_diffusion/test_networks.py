import pytest
import torch
from torch import nn

from diffkd_mm.diffusion import (
    BottleneckDenoiser,
    LinearAutoencoder,
    NoiseAdapter,
    PCAProjection,
    RandomProjection,
    ScheduledNoise,
    Standardization,
    VectorDenoiser,
    VectorNoiseAdapter,
)
from diffkd_mm.errors import DistillationError


def count(module):
    return sum(p.numel() for p in module.parameters())


def test_denoiser_has_the_papers_size():
    """0.21 M parameters at 256 channels (appendix C.2), the time table apart."""
    denoiser = BottleneckDenoiser(256)
    table = denoiser.time_embedding.weight
    assert table.shape == (1280, 256)
    assert count(denoiser) - table.numel() == 207_872


@pytest.mark.parametrize('channels', [1, 2, 19, 64])
@pytest.mark.parametrize('norm_cfg', [dict(type='BN'), dict(type='GN', num_groups=32)])
def test_any_number_of_channels(channels, norm_cfg):
    """Hidden widths are floored and at least 1, so that a two-class segmentation works."""
    denoiser = BottleneckDenoiser(channels, norm_cfg)
    adapter = NoiseAdapter(channels, norm_cfg)
    x = torch.randn(2, channels, 5, 7)
    assert denoiser(x, torch.tensor([3, 999])).shape == x.shape
    assert denoiser.net[0].block[0].out_channels == max(channels // 4, 1)
    assert adapter.features.block[0].out_channels == max(channels // 8, 1)
    noisy, noise_weight = adapter(x, torch.randn_like(x))
    assert noisy.shape == x.shape and noise_weight.shape == (2,)


@pytest.mark.parametrize('channels', [2, 4, 8, 10, 16, 32, 100])
def test_group_norm_of_vectors(channels):
    """In a group of one channel a vector would always be zero, whatever comes in."""
    torch.manual_seed(0)
    x = torch.randn(6, channels, 1, 1)
    norm_cfg = dict(type='GN')
    noise = VectorDenoiser(channels, norm_cfg)(x, torch.tensor([400]))
    assert noise.std(0).max() > 0.1
    noise_weight = VectorNoiseAdapter(channels, norm_cfg)(x, torch.randn_like(x))[1]
    assert noise_weight.std() > 1e-4


def test_timestep_changes_the_prediction_and_broadcasts():
    torch.manual_seed(0)
    denoiser = BottleneckDenoiser(8).eval()
    x = torch.randn(3, 8, 4, 4)
    assert not torch.allclose(denoiser(x, torch.tensor([0])), denoiser(x, torch.tensor([400])))
    torch.testing.assert_close(
        denoiser(x, torch.tensor([400])), denoiser(x, torch.tensor([400] * 3))
    )


def test_batch_norm_cancels_a_timestep_shared_by_the_batch():
    """A property of the paper's form, said in docs/method.md: a constant per channel, which the
    embedding of a shared timestep is, vanishes in every batch norm on batch statistics."""
    torch.manual_seed(0)
    denoiser = BottleneckDenoiser(8)
    x = torch.randn(3, 8, 6, 6)
    early, late = (denoiser(x, torch.tensor([t])) for t in (0, 400))
    torch.testing.assert_close(early, late, atol=1e-4, rtol=1e-4)
    mixed = denoiser(x, torch.tensor([0, 400, 999]))
    assert not torch.allclose(early, mixed, atol=1e-2)


def test_bottleneck_has_no_activation_after_the_sum():
    denoiser = BottleneckDenoiser(8)
    block = denoiser.net[0].eval()
    nn.init.zeros_(block.block[-1].weight)
    nn.init.zeros_(block.block[-1].bias)
    x = torch.randn(2, 8, 3, 3)
    torch.testing.assert_close(block(x), x)
    assert (x < 0).any()


def test_noise_weight_mixes_student_and_noise():
    """eq. 8: γ multiplies the student, 1 − γ the noise; γ is the first softmax entry."""
    torch.manual_seed(0)
    adapter = NoiseAdapter(8)
    x, noise = torch.randn(2, 4, 8, 3, 3)
    adapter.linear.weight.data.zero_()
    adapter.linear.bias.data.copy_(torch.tensor([3.0, 0.0]).log() + 1)  # bias 2 is -inf: γ = 1
    noisy, noise_weight = adapter(x, noise)
    torch.testing.assert_close(noise_weight, torch.ones(4))
    torch.testing.assert_close(noisy, x)
    adapter.linear.bias.data.copy_(torch.tensor([3.0, 1.0]).log())
    noisy, noise_weight = adapter(x, noise)
    torch.testing.assert_close(noise_weight, torch.full((4,), 0.75))
    torch.testing.assert_close(noisy, 0.75 * x + 0.25 * noise)


def test_vector_networks():
    x = torch.randn(4, 10, 1, 1)
    denoiser = VectorDenoiser(10)
    convs = [m for m in denoiser.modules() if isinstance(m, nn.Conv2d)]
    assert [(c.in_channels, c.out_channels) for c in convs] == [(10, 40), (40, 10)] * 2
    assert denoiser(x, torch.tensor([7])).shape == x.shape
    adapter = VectorNoiseAdapter(10)
    assert adapter.features[0].out_channels == 20
    assert adapter(x, torch.randn_like(x))[0].shape == x.shape


def test_autoencoder_may_widen():
    autoencoder = LinearAutoencoder(6, 12)
    latent, reconstruction = autoencoder(torch.randn(2, 6, 3, 4))
    assert latent.shape == (2, 12, 3, 4) and reconstruction.shape == (2, 6, 3, 4)
    assert isinstance(autoencoder.encoder[1], nn.BatchNorm2d)


class TestStandardization:
    def test_first_batch_is_standardised_per_channel(self):
        x = 3 + 2 * torch.randn(8, 5, 10, 10) * torch.arange(1, 6).view(1, 5, 1, 1)
        y = Standardization(5)(x)
        torch.testing.assert_close(y.mean((0, 2, 3)), torch.zeros(5), atol=1e-4, rtol=0)
        torch.testing.assert_close(
            y.var((0, 2, 3), unbiased=False), torch.ones(5), atol=1e-3, rtol=0
        )

    def test_scale_keeps_zero_and_proportions(self):
        x = 3 * torch.randn(8, 5, 10, 10) + 1
        x[0, 0, 0, 0] = 0
        y = Standardization(5, mode='scale')(x)
        assert y[0, 0, 0, 0] == 0
        assert y.square().mean().item() == pytest.approx(1, abs=1e-4)
        torch.testing.assert_close(y / y.mean(), x / x.mean(), atol=1e-3, rtol=1e-3)

    def test_running_statistics_are_the_mean_over_batches(self):
        module = Standardization(1)
        batches = [torch.randn(4, 1, 6, 6) * scale for scale in (1, 2, 3)]
        for x in batches:
            module(x)
        expected = torch.stack([x.square().mean() for x in batches]).mean()
        torch.testing.assert_close(module.mean_square[0], expected)
        module.eval()
        before = module.mean_square.clone()
        module(batches[0])
        assert torch.equal(module.mean_square, before)

    def test_unknown_mode(self):
        with pytest.raises(ValueError, match="standardize='batch'"):
            Standardization(4, mode='batch')


class TestScheduledNoise:
    def test_moves_from_start_to_end_in_training(self):
        scheduled = ScheduledNoise(3, start=0.5, end=0.9, iters=4)
        x, noise = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
        seen = []
        for _ in range(6):
            z, noise_weight = scheduled(x, noise)
            seen.append(noise_weight[0].item())
            torch.testing.assert_close(z, seen[-1] * x + (1 - seen[-1]) * noise)
        assert noise_weight.shape == (2,)
        assert seen == pytest.approx([0.5, 0.6, 0.7, 0.8, 0.9, 0.9])

    def test_goes_on_where_a_checkpoint_was_and_stands_still_in_evaluation(self):
        scheduled, resumed = (ScheduledNoise(3, start=1, end=0, iters=4) for _ in range(2))
        x = torch.randn(2, 3, 1, 1)
        scheduled(x, x)
        resumed.load_state_dict(scheduled.state_dict())
        assert resumed.eval()(x, x)[1][0] == resumed(x, x)[1][0] == 0.75

    def test_constant_unless_there_is_an_end(self):
        constant = ScheduledNoise(3, start=0.7)
        x = torch.randn(2, 3, 4, 4)
        for _ in range(2):
            assert constant(x, torch.randn_like(x))[1].tolist() == pytest.approx([0.7, 0.7])

    def test_refuses_weights_that_are_none(self):
        with pytest.raises(ValueError, match='end=1.2 must lie between 0 and 1'):
            ScheduledNoise(3, end=1.2)


class TestFixedProjections:
    """In place of a learned encoder: no parameter learns, and no decoder."""

    @staticmethod
    def maps():
        """Channels that depend on one another, with a mean other than zero."""
        torch.manual_seed(0)
        return torch.einsum('oc,bchw->bohw', torch.randn(6, 6), torch.randn(4, 6, 5, 7)) + 3

    def test_pca_against_numpy(self):
        numpy = pytest.importorskip('numpy')
        x, projection = self.maps(), PCAProjection(6, 3)
        latent, reconstruction = projection(x)
        assert latent.shape == (4, 3, 5, 7) and reconstruction is None
        samples = x.movedim(1, -1).reshape(-1, 6).double().numpy()
        samples -= samples.mean(0)
        _, sizes, components = numpy.linalg.svd(samples, full_matrices=False)
        expected = samples @ components[:3].T / (sizes[:3] / len(samples) ** 0.5)
        actual = latent.movedim(1, -1).reshape(-1, 3).double().numpy()
        correlation = (expected * actual).mean(0)  # signs are arbitrary
        numpy.testing.assert_allclose(abs(correlation), 1, atol=1e-3)

    @pytest.mark.parametrize('kind', [PCAProjection, RandomProjection])
    def test_fixed_after_the_first_batch(self, kind):
        projection = kind(6, 3)
        projection(self.maps())
        first = projection.matrix.clone()
        projection(torch.randn(4, 6, 5, 7))
        assert torch.equal(projection.matrix, first) and first.abs().sum() > 0
        assert not [p for p in projection.parameters() if p.requires_grad]
        restored = kind(6, 3)
        restored.load_state_dict(projection.state_dict())
        x = self.maps()
        torch.testing.assert_close(restored(x)[0], projection(x)[0])

    def test_evaluation_does_not_fit(self):
        projection = PCAProjection(6, 3).eval()
        projection(self.maps())
        assert not projection.fitted

    def test_more_components_than_channels(self):
        with pytest.raises(DistillationError, match='latent_channels=7 exceeds'):
            PCAProjection(6, 7)
        assert RandomProjection(6, 7)(self.maps())[0].shape == (4, 7, 5, 7)
