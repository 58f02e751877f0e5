"""Score guidance: the denoiser pulls the student's feature, and is not passed through."""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..diffusion.ddim import gaussian_noise
from ..options import NonNegativeFloat, PositiveFloat, PositiveInt
from ..registry import MODELS
from .base import Channels, Losses
from .diffkd import DiffKDConnector, _as_map


@MODELS.register_module()
class ScoreGuidanceConnector(DiffKDConnector):
    """FitNet's 1×1 conv, and a pull towards where the teacher's features are dense.

    The teacher alone teaches the denoiser Φ (``loss_diff``). The projected student feature z is not
    denoised but noised once, at a random timestep; what Φ takes for noise beyond the noise that was
    added, Φ(√ᾱ_t·z + √(1−ᾱ_t)·ε, t) − ε, is the gradient of ``loss_guidance`` at z, as in score
    distillation (Poole et al. 2022, DreamFusion, eq. 3, with w(t) = 1). No gradient passes through
    Φ, which runs once on the student in place of N times. z itself is compared with the teacher by
    the point's loss. Not in the paper.

    Args:
        student_channels (int | Sequence[int], optional): As in :class:`DiffKDConnector`.
        teacher_channels (int | Sequence[int], optional): As in :class:`DiffKDConnector`.
        num_levels (int, optional): Number of levels. None: found by the distiller.
        shared (bool): One set of modules for all levels. Defaults to False.
        latent_channels (int, optional): As in :class:`DiffKDConnector`. Defaults to None.
        denoiser (dict, optional): As in :class:`DiffKDConnector`.
        standardize (str, optional): As in :class:`DiffKDConnector`. Defaults to None.
        norm_cfg (dict, optional): Normalisation of all modules. Defaults to ``dict(type='BN')``.
        loss_diff_weight (float): Weight of ``loss_diff``, above 0. Defaults to 1.0.
        loss_ae_weight (float): Weight of ``loss_ae``. Defaults to 1.0.
        loss_guidance_weight (float): Weight of ``loss_guidance``. Defaults to 1.0.
        vectors (bool): As in :class:`DiffKDConnector`. Found by the distiller. Defaults to False.
    """

    def __init__(
        self,
        student_channels: Channels | None = None,
        teacher_channels: Channels | None = None,
        num_levels: PositiveInt | None = None,
        shared: bool = False,
        latent_channels: PositiveInt | None = None,
        denoiser: dict | None = None,
        standardize: Literal['channel', 'scale'] | None = None,
        norm_cfg: dict | None = None,
        loss_diff_weight: PositiveFloat = 1.0,
        loss_ae_weight: NonNegativeFloat = 1.0,
        loss_guidance_weight: NonNegativeFloat = 1.0,
        vectors: bool = False,
    ) -> None:
        super().__init__(
            student_channels,
            teacher_channels,
            num_levels,
            shared=shared,
            latent_channels=latent_channels,
            denoiser=denoiser,
            noise_adapter=None,
            output_projection=False,
            standardize=standardize,
            norm_cfg=norm_cfg,
            loss_diff_weight=loss_diff_weight,
            loss_ae_weight=loss_ae_weight,
            vectors=vectors,
        )
        self.loss_guidance_weight = loss_guidance_weight

    def forward(
        self, students: Sequence[Tensor], teachers: Sequence[Tensor]
    ) -> tuple[list[Tensor], list[Tensor], Losses]:
        """Projects the student's levels and pulls them.

        Args:
            students (Sequence[Tensor]): One tensor of shape (B, C_s, H, W) or (B, C_s) per level.
            teachers (Sequence[Tensor]): One tensor of shape (B, C_t, H, W) or (B, C_t) per level.

        Returns:
            tuple: Projected student features and targets, each one tensor of shape (B, C, H, W) or
            (B, C) per level, and a dict with ``loss_guidance``, ``loss_diff`` and, with an
            autoencoder, ``loss_ae``, summed over the levels.

        Raises:
            DistillationError: If the levels differ from what the connector was built for.
        """
        self.check_levels(students, teachers)
        targets, losses = self._encode_and_diffuse(teachers, self._denoising(refines=False))
        projected, pulls = [], []
        for i, student in enumerate(students):
            level = self._level(i)
            sample = level.student_projection(_as_map(student)).float()
            pulls.append(self._pull(level.denoiser, sample))
            projected.append(sample)
        losses['loss_guidance'] = self.loss_guidance_weight * sum(pulls)
        if students[0].dim() == 2:
            projected, targets = ([x.flatten(1) for x in xs] for xs in (projected, targets))
        return projected, targets, losses

    def _pull(self, denoiser: nn.Module, sample: Tensor) -> Tensor:
        """Half the mean of (Φ − ε)², whose gradient at the sample is (Φ − ε) over its size."""
        with torch.no_grad():
            noise = gaussian_noise(sample)
            timesteps = torch.randint(
                self.sampler.num_train_timesteps, (sample.size(0),), device=sample.device
            )
            noisy = self.sampler.add_noise(sample, noise, timesteps)
            target = sample - (denoiser(noisy, timesteps).float() - noise)
        return F.mse_loss(sample, target) / 2
