"""The measures of a gap, against cases whose answer is known."""

import math

import numpy as np
import pytest
import scipy.fft
import torch

from diffkd_mm.analysis.gap import GapMeter, cosine_transform, frequencies


def gap(x, t, batch=None):
    meter = GapMeter()
    for pair in zip(x.split(batch or len(x)), t.split(batch or len(t))):
        meter.update(*pair)
    return meter.result()


@pytest.fixture
def teacher():
    return torch.randn(40, 4, 16, 16)


def rotation(channels):
    return torch.linalg.qr(torch.randn(channels, channels)).Q


def mix(matrix, x):
    return torch.einsum('dc,bchw->bdhw', matrix, x)


def test_the_transform_is_the_dct():
    x = torch.randn(2, 5, 7, dtype=torch.float64)
    expected = scipy.fft.dctn(x.numpy(), axes=(1, 2), norm='ortho')
    np.testing.assert_allclose(cosine_transform(x).numpy(), expected, atol=1e-12)


def test_frequencies_are_those_of_the_cosines():
    """Coefficient (0, 7) of eight columns turns 3.5 times in them; the chessboard is the corner."""
    radius = frequencies(8, 8)
    assert radius[0, 0] == 0 and radius[0, 7] == pytest.approx(3.5 / 8)
    assert radius.max() == radius[7, 7] == pytest.approx(math.hypot(7, 7) / 16)


@pytest.mark.parametrize('decibels', [-6, 0, 20])
def test_known_noise_has_its_signal_to_noise_ratio(teacher, decibels):
    noise = torch.randn_like(teacher) * 10 ** (-decibels / 20)
    found = gap(teacher + noise, teacher)
    assert found.snr == pytest.approx(decibels, abs=0.1)
    assert found.error == pytest.approx(10 ** (-decibels / 10), rel=0.03)


def test_a_linear_map_leaves_what_wieners_filter_leaves(teacher):
    """Of a signal and noise of the same power: half, 3 dB, by halving their sum."""
    found = gap(teacher + torch.randn_like(teacher), teacher)
    assert found.fitted_snr == pytest.approx(10 * math.log10(2), abs=0.1)


def test_the_mean_square_is_the_plain_one(teacher):
    student = teacher + 0.3 * torch.rand_like(teacher)
    error = (student - teacher).square().mean() / teacher.square().mean()
    assert gap(student, teacher).error == pytest.approx(error.item(), rel=1e-5)
    cosine = torch.cosine_similarity(student, teacher, dim=1).mean()
    assert gap(student, teacher).cosine == pytest.approx(cosine.item(), rel=1e-5)


def test_an_equal_feature_has_no_gap(teacher):
    found = gap(teacher, teacher)
    assert found.error < 1e-12 and found.snr > 120
    assert found.cosine == pytest.approx(1) and found.cka == pytest.approx(1)
    assert found.fitted_error < 1e-10


def test_white_noise_has_a_flat_spectrum_of_its_power(teacher):
    found = gap(teacher + 0.5 * torch.randn_like(teacher), teacher)
    assert found.frequency == pytest.approx(1, abs=0.01)
    assert found.spectra['difference'] == pytest.approx([0.25] * len(found.bands), rel=0.15)
    assert found.teacher_frequency == pytest.approx(1, abs=0.01)


def test_smooth_and_rough_differences_are_told_apart(teacher):
    line = torch.arange(16)
    smooth = torch.cos(math.pi / 16 * (line + 0.5)).expand(40, 4, 16, 16)
    rough = ((-1.0) ** (line + line[:, None])).expand(40, 4, 16, 16)
    found = gap(teacher + smooth, teacher)
    mean = frequencies(16, 16).sum() / 255
    assert found.frequency == pytest.approx(1 / 32 / mean.item(), rel=0.7)  # within its band
    assert found.spectra['difference'][0] == max(found.spectra['difference'])
    found = gap(teacher + rough, teacher)
    assert found.frequency > 1.5
    assert found.spectra['difference'][-1] == max(found.spectra['difference'])


def test_what_a_fit_leaves_has_its_spectrum_too(teacher):
    """A teacher in another basis, with rough noise in what the student lacks."""
    rough = 0.5 * ((-1.0) ** (torch.arange(16) + torch.arange(16)[:, None]))
    signs = torch.randn(40, 4, 1, 1)
    student = teacher.clone()
    found = gap(mix(rotation(4), student), teacher + signs * rough)
    residual = (signs * rough).square().mean() / (teacher + signs * rough).square().mean()
    assert found.fitted_error == pytest.approx(residual.item(), rel=0.05)
    assert found.fitted_frequency > 1.5 and found.spectra['fitted'][-1] > 1


def test_cka_minds_neither_basis_nor_scale_nor_offset(teacher):
    student = teacher + torch.randn_like(teacher)
    moved = 3 * mix(rotation(4), student) + torch.randn(4, 1, 1)
    assert gap(moved, teacher).cka == pytest.approx(gap(student, teacher).cka, rel=1e-6)
    assert gap(moved, teacher).fitted_snr == pytest.approx(gap(student, teacher).fitted_snr)
    assert gap(moved, teacher).error != pytest.approx(gap(student, teacher).error, rel=0.1)


def test_cka_is_that_of_the_centred_gram_matrices():
    x, t = torch.randn(3, 5, 2, 2), torch.randn(3, 4, 2, 2)
    grams = []
    for a in (x, t):
        rows = a.movedim(1, -1).flatten(0, -2).double()
        rows = rows - rows.mean(0)
        grams.append(rows @ rows.T)
    expected = (grams[0] * grams[1]).sum() / (grams[0].norm() * grams[1].norm())
    assert gap(x, t).cka == pytest.approx(expected.item(), rel=1e-6)


def test_different_widths_have_cka_and_a_fit_alone(teacher):
    found = gap(mix(torch.randn(6, 4), teacher), teacher)
    assert found.error is found.snr is found.cosine is found.frequency is None
    assert 'difference' not in found.spectra
    assert found.fitted_error < 1e-6 and 0 < found.cka <= 1


def test_too_few_positions_are_not_fitted():
    x = torch.randn(6, 8)
    found = gap(x, torch.randn(6, 8))
    assert found.fitted_error is None and found.error is not None


def test_vectors_have_no_spectrum():
    t = torch.randn(200, 4)
    found = gap(t + torch.randn_like(t), t)
    assert found.bands == [] and found.frequency is None
    assert found.snr == pytest.approx(0, abs=0.5)


def test_batches_add_up_also_of_different_sizes(teacher):
    student = teacher + torch.randn_like(teacher)
    whole, parts = gap(student, teacher), gap(student, teacher, batch=7)
    assert parts.cka == pytest.approx(whole.cka) and parts.error == pytest.approx(whole.error)
    assert parts.spectra['fitted'] == pytest.approx(whole.spectra['fitted'])
    meter = GapMeter()
    meter.update(student, teacher)
    meter.update(torch.zeros(2, 4, 3, 5), torch.ones(2, 4, 3, 5))
    error = ((student - teacher).square().sum() + 120) / (teacher.square().sum() + 120)
    assert meter.result().error == pytest.approx(error.item(), rel=1e-5)
