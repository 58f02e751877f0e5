"""How far a feature is from its teacher: error, similarity and spectrum of the difference.

Everything is computed from sums over positions, so a data set of any size takes one pass.
"""

import math
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

# Bands of spatial frequency up to that of a chessboard, √½ cycles per position.
BANDS = 10
HIGHEST = math.sqrt(0.5)
# Positions per channel that a least-squares fit needs before it says anything.
POSITIONS_PER_CHANNEL = 10


def cosine_transform(x: Tensor) -> Tensor:
    """The orthonormal two-dimensional DCT-II of maps (..., H, W).

    A map does not go on at its border as it began; unlike the Fourier transform, the cosine
    transform does not take that for high frequencies (Denis et al. 2002).
    """
    rows, columns = (_basis(n, x) for n in x.shape[-2:])
    return rows @ x @ columns.T


def _basis(length: int, like: Tensor) -> Tensor:
    steps = torch.arange(length, dtype=like.dtype, device=like.device)
    basis = torch.cos(math.pi / length * (steps + 0.5) * steps[:, None])
    basis *= math.sqrt(2 / length)
    basis[0] /= math.sqrt(2)
    return basis


def frequencies(height: int, width: int) -> Tensor:
    """Radial frequency of each DCT coefficient in cycles per position, of shape (H, W)."""
    rows, columns = (torch.arange(n, dtype=torch.float64) / (2 * n) for n in (height, width))
    return torch.hypot(rows[:, None], columns[None])


@dataclass
class Gap:
    """The gap between a feature and the teacher's.

    Those of the difference itself are None where the two have different widths. "Fitted" means
    that the feature is first mapped to the teacher's by the linear map with the least squared
    error: what no change of basis can remove. It is None where there are too few positions for it.

    Attributes:
        error (float, optional): MSE over the teacher's mean square.
        fitted_error (float, optional): The same, fitted.
        cosine (float, optional): Mean cosine similarity of the channels at a position.
        cka (float): Linear centred kernel alignment of all positions (Kornblith et al. 2019).
        frequency (float, optional): Mean frequency of the difference's energy, the map's mean left
            out, over that of white noise: 1 is as flat, below 1 smoother. None for vectors.
        fitted_frequency (float, optional): The same, fitted.
        teacher_frequency (float, optional): The same of the teacher.
        bands (list[float]): Mean frequencies of the bands that the maps have, without the mean.
        spectra (dict[str, list[float]]): Per band the mean energy of a coefficient over the
            teacher's mean square: ``'teacher'``, ``'difference'`` and ``'fitted'`` where known.
    """

    error: float | None
    fitted_error: float | None
    cosine: float | None
    cka: float
    frequency: float | None
    fitted_frequency: float | None
    teacher_frequency: float | None
    bands: list[float] = field(repr=False)
    spectra: dict[str, list[float]] = field(repr=False)

    @property
    def snr(self) -> float | None:
        """Signal-to-noise ratio in dB: the teacher over the difference."""
        return decibels(self.error)

    @property
    def fitted_snr(self) -> float | None:
        """The same, fitted; with equal widths not below :attr:`snr`."""
        return decibels(self.fitted_error)


def decibels(error: float | None) -> float | None:
    """The signal-to-noise ratio in dB of a relative error."""
    if error is None:
        return None
    return -10 * math.log10(error) if error > 0 else math.inf


class GapMeter:
    """Adds up what :class:`Gap` is computed from, batch by batch.

    Needs memory for 11 matrices of C·C_t and 11 of C² numbers of 8 bytes: for 256 channels 12 MB.
    """

    def __init__(self) -> None:
        self.positions = 0
        self.cosine = 0.0
        self.coefficients = torch.zeros(BANDS + 1, dtype=torch.float64)
        self.frequency = torch.zeros(BANDS + 1, dtype=torch.float64)
        self.sums: tuple[Tensor, Tensor] | None = None

    @torch.no_grad()
    def update(self, feature: Tensor, teacher: Tensor) -> None:
        """Adds a batch.

        Args:
            feature (Tensor): Maps (B, C, H, W) or vectors (B, C).
            teacher (Tensor): Maps (B, C_t, H, W) or vectors (B, C_t) of as many positions.
        """
        x, t = (
            a.double() if a.dim() == 4 else a.double()[:, :, None, None] for a in (feature, teacher)
        )
        if self.sums is None:
            self._start(x, t)
        if x.size(1) == t.size(1):
            self.cosine += F.cosine_similarity(x, t, dim=1).sum().item()
        self.positions += x.numel() // x.size(1)
        self.sums = tuple(s + a.sum((0, 2, 3)) for s, a in zip(self.sums, (x, t)))
        self._add_bands(*(cosine_transform(a).transpose(0, 1).flatten(2) for a in (x, t)), x.shape)

    def _start(self, x: Tensor, t: Tensor) -> None:
        width, teacher_width = x.size(1), t.size(1)
        self.sums = x.new_zeros(width), x.new_zeros(teacher_width)
        self.own = x.new_zeros(BANDS + 1, width, width)
        self.cross = x.new_zeros(BANDS + 1, width, teacher_width)
        self.teacher = x.new_zeros(teacher_width, teacher_width)
        self.teacher_energy = x.new_zeros(BANDS + 1)

    def _add_bands(self, x: Tensor, t: Tensor, shape: torch.Size) -> None:
        """Adds products of DCT coefficients (C, B, H·W), of which the first is the mean."""
        radius = frequencies(*shape[2:]).flatten()
        # The mean has a band of its own.
        band = 1 + (radius / HIGHEST * BANDS).long().clamp(max=BANDS - 1)
        band[0] = 0
        for index in band.unique().tolist():
            here = (band == index).nonzero()[:, 0]
            self.coefficients[index] += shape[0] * len(here)
            self.frequency[index] += shape[0] * radius[here].sum()
            xs, ts = (a[:, :, here.to(a.device)].flatten(1) for a in (x, t))
            self.own[index] += xs @ xs.T
            self.cross[index] += xs @ ts.T
            self.teacher += ts @ ts.T
            self.teacher_energy[index] += ts.square().sum()

    def result(self) -> Gap:
        """The gap over all batches."""
        own, cross = self.own.sum(0), self.cross.sum(0)
        same = own.shape == cross.shape
        signal = self.teacher_energy.sum()
        x_mean, t_mean = (s / self.positions for s in self.sums)
        own = own - self.positions * torch.outer(x_mean, x_mean)
        cross = cross - self.positions * torch.outer(x_mean, t_mean)
        teacher = self.teacher - self.positions * torch.outer(t_mean, t_mean)

        energies = dict(teacher=self.teacher_energy)
        fitted_error = None
        if same:
            energies['difference'] = self._difference(torch.eye(len(own)).to(own))
        if self.positions >= POSITIONS_PER_CHANNEL * len(own):
            fit = torch.linalg.pinv(own, rtol=1e-9, hermitian=True) @ cross
            energies['fitted'] = self._difference(fit)
            residual = teacher.trace() - (fit * cross).sum()
            fitted_error = (residual.clamp(min=0) / signal).item()
        found = {key: self._mean_frequency(energy) for key, energy in energies.items()}
        present = self.coefficients > 0
        present[0] = False
        scale = self.positions / signal.cpu()
        return Gap(
            error=(energies['difference'].sum() / signal).item() if same else None,
            fitted_error=fitted_error,
            cosine=self.cosine / self.positions if same else None,
            cka=(cross.square().sum() / (own.norm() * teacher.norm())).item(),
            frequency=found.get('difference'),
            fitted_frequency=found.get('fitted'),
            teacher_frequency=found['teacher'],
            bands=(self.frequency / self.coefficients)[present].tolist(),
            spectra={
                key: (energy.cpu() / self.coefficients * scale)[present].tolist()
                for key, energy in energies.items()
            },
        )

    def _difference(self, fit: Tensor) -> Tensor:
        """Energy of t − xW per band, at the first without the fit's intercept."""
        own = (self.own @ fit * fit).sum((1, 2))
        return self.teacher_energy - 2 * (fit * self.cross).sum((1, 2)) + own

    def _mean_frequency(self, energy: Tensor) -> float | None:
        energy, total = energy.cpu()[1:].clamp(min=0), self.frequency[1:].sum()
        if not total or not energy.sum():
            return None
        count = self.coefficients[1:]
        frequency = torch.where(count > 0, self.frequency[1:] / count.clamp(min=1), 0)
        white = total / count.sum()
        return ((energy * frequency).sum() / energy.sum() / white).item()
