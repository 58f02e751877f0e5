"""The DiffKD connector: denoises student features before they are compared (DiffKD, Sec. 3)."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..diffusion import DDIMSampler
from ..errors import DistillationError
from ..options import NonNegativeFloat, PositiveInt
from ..registry import MODELS
from .base import Channels, Connector, Losses
from .diffkd_level import Denoising, DiffKDLevel


@MODELS.register_module()
class DiffKDConnector(Connector):
    """Refines student features with a diffusion model trained on teacher features.

    Per level (DiffKD, Sec. 3 and Fig. 3): the teacher feature, compressed by the autoencoder if
    there is one, trains the denoiser with ``loss_diff`` (eq. 4) and is the target. The projected
    student feature gets the noise it lacks from the noise adapter (eq. 8), is denoised by N DDIM
    steps and projected once more. Feature maps of any size and vectors (B, C) are accepted.

    Gradients: none into the teacher. The distillation loss reaches student, projections, adapter
    and (by default) denoiser; ``loss_diff`` the denoiser only; ``loss_ae`` the autoencoder only.

    Args:
        student_channels (int | Sequence[int], optional): Channels C_s of every student level, or
            a list of each level's. None: found by the distiller, which runs the student once on
            blank images.
        teacher_channels (int | Sequence[int], optional): Channels C_t of the teacher's levels,
            the same. None: found by the distiller, which builds the teacher's network once more.
        num_levels (int, optional): Number of levels. None: found by the distiller.
        shared (bool): One set of modules for all levels. Defaults to False: one per level.
        latent_channels (int, optional): Channels C of the autoencoder's latent. Defaults to None,
            which means no autoencoder: C = C_t.
        autoencoder (dict, optional): What makes the latent, if there is one. Its ``type`` defaults
            to ``'LinearAutoencoder'``; ``'PCAProjection'`` and ``'RandomProjection'`` do not learn.
        denoiser (dict, optional): Its ``type`` defaults to ``'BottleneckDenoiser'``, for vectors
            to ``'VectorDenoiser'``.
        noise_adapter (dict, optional): Its ``type`` defaults to ``'NoiseAdapter'``, for vectors to
            ``'VectorNoiseAdapter'``. None: no adapter (Table 11) and, as in the authors' code
            then, no noise.
        num_inference_steps (int): Score evaluations N. Defaults to 5.
        initial_timestep (int): Where the denoising begins, appendix B.1. Defaults to 500.
        timestep_spacing (str): ``'leading'``, as in the authors' code: the first of five
            evaluations is at t = 400; ``'trailing'``: it is at ``initial_timestep`` itself. See
            :class:`DDIMSampler`. Defaults to ``'leading'``.
        output_projection (bool): 1×1 conv and norm after the denoising. Defaults to True, as in
            the authors' code.
        standardize (str, optional): ``'channel'`` or ``'scale'``: standardise the teacher feature
            before it is diffused and compared, see :class:`Standardization`. Defaults to None, as
            in the paper.
        kd_trains_denoiser (bool): Whether the distillation loss trains the denoiser's parameters
            too, as in the authors' code, or only passes through it. Defaults to True.
        norm_cfg (dict, optional): Normalisation of all modules. Defaults to ``dict(type='BN')``.
        with_cp (bool): Activation checkpointing: every denoiser evaluation is repeated in the
            backward pass instead of being stored. Defaults to False.
        loss_diff_weight (float): λ1 of eq. 9. Defaults to 1.0. 0: the diffusion loss is not
            computed; with ``noise_adapter=None`` as well it is :class:`DeepProjectorConnector`.
        loss_ae_weight (float): λ2 of eq. 9. Defaults to 1.0.
        loss_align_weight (float): Weight of ``loss_align``, the MSE between projected student
            feature and target, which trains the student's projection alone and asks it for the
            teacher's basis, in which the denoiser was taught. Not in the paper. Defaults to 0.0:
            it is not computed.
        vectors (bool): Whether the levels are vectors (B, C), which says what denoiser and noise
            adapter are by default. Found by the distiller. Defaults to False.

    Raises:
        DistillationError: If a number of channels is left open, or does not fit the levels, or
            there is an autoencoder and no ``latent_channels``.
        ValueError: If nothing would train the denoiser.
    """

    def __init__(
        self,
        student_channels: Channels | None = None,
        teacher_channels: Channels | None = None,
        num_levels: PositiveInt | None = None,
        shared: bool = False,
        latent_channels: PositiveInt | None = None,
        autoencoder: dict | None = None,
        denoiser: dict | None = None,
        noise_adapter: dict | None = dict(),  # noqa: B006, C408  None means off
        num_inference_steps: PositiveInt = 5,
        initial_timestep: PositiveInt = 500,
        timestep_spacing: Literal['leading', 'trailing'] = 'leading',
        output_projection: bool = True,
        standardize: Literal['channel', 'scale'] | None = None,
        kd_trains_denoiser: bool = True,
        norm_cfg: dict | None = None,
        with_cp: bool = False,
        loss_diff_weight: NonNegativeFloat = 1.0,
        loss_ae_weight: NonNegativeFloat = 1.0,
        loss_align_weight: NonNegativeFloat = 0.0,
        vectors: bool = False,
    ) -> None:
        super().__init__(student_channels, teacher_channels, num_levels)
        if not (loss_diff_weight or kd_trains_denoiser):
            raise ValueError(
                'loss_diff_weight=0 with kd_trains_denoiser=False: nothing trains the denoiser. '
                'Set kd_trains_denoiser=True.'
            )
        if autoencoder is not None and latent_channels is None:
            raise DistillationError(
                f'autoencoder={autoencoder} needs latent_channels, the channels of its latent.'
            )
        self.loss_diff_weight = loss_diff_weight
        self.loss_ae_weight = loss_ae_weight
        self.loss_align_weight = loss_align_weight
        self.sampler = DDIMSampler(
            num_inference_steps,
            initial_timestep=initial_timestep,
            timestep_spacing=timestep_spacing,
        )
        channels = list(zip(self.student_channels, self.teacher_channels))
        if shared and len(set(channels)) > 1:
            raise DistillationError(
                f'shared=True needs levels of equal channels, and they have {self.student_channels}'
                f' in the student and {self.teacher_channels} in the teacher.'
            )
        if noise_adapter is not None:
            noise_adapter = dict(type='VectorNoiseAdapter' if vectors else 'NoiseAdapter') | dict(
                noise_adapter
            )
        denoiser = dict(type='VectorDenoiser' if vectors else 'BottleneckDenoiser') | dict(
            denoiser or {}
        )
        autoencoder = dict(type='LinearAutoencoder') | dict(autoencoder or {})
        self.levels = nn.ModuleList(
            DiffKDLevel(
                student,
                teacher,
                latent_channels,
                autoencoder,
                denoiser,
                noise_adapter,
                output_projection,
                standardize,
                norm_cfg or dict(type='BN'),
                self.sampler,
                kd_trains_denoiser,
                with_cp,
            )
            for student, teacher in channels[: 1 if shared else None]
        )

    def forward(
        self, students: Sequence[Tensor], teachers: Sequence[Tensor]
    ) -> tuple[list[Tensor], list[Tensor], Losses]:
        """Refines the student's levels.

        Args:
            students (Sequence[Tensor]): One tensor of shape (B, C_s, H, W) or (B, C_s) per level.
            teachers (Sequence[Tensor]): One tensor of shape (B, C_t, H, W) or (B, C_t) per level.

        Returns:
            tuple: Refined student features and targets, each one tensor of shape (B, C, H, W) or
            (B, C) per level, and a dict with ``loss_diff``, ``loss_ae`` (with an autoencoder),
            ``loss_align`` (with a weight) and ``noise_weight`` (the mean γ, with an adapter; not a
            loss), summed over the levels but for the mean γ.

        Raises:
            DistillationError: If the levels differ from what the connector was built for.
        """
        self.check_levels(students, teachers)
        denoising = self._denoising(refines=True)
        latents, losses = self._encode_and_diffuse(teachers, denoising)
        refined, noise_weights = denoising.denoise([_as_map(x) for x in students])
        if self.loss_align_weight:
            losses_align = [
                self._level(i).alignment_loss(_as_map(student), target)
                for i, (student, target) in enumerate(zip(students, latents))
            ]
            losses['loss_align'] = self.loss_align_weight * sum(losses_align)
        if noise_weights[0] is not None:
            losses['noise_weight'] = torch.cat(noise_weights).mean().detach()
        is_map = students[0].dim() == 4
        if not is_map:
            refined, latents = ([x.flatten(1) for x in xs] for xs in (refined, latents))
        return refined, latents, losses

    def _check_batch(self, teachers: Sequence[Tensor]) -> None:
        """Student and teacher have as many values per channel: the teacher's are looked at."""
        for i, teacher in enumerate(teachers):
            if teacher.numel() == teacher.size(1) and any(
                isinstance(module, _BatchNorm) and not isinstance(module, nn.SyncBatchNorm)
                for module in self.modules()
            ):
                raise DistillationError(
                    f'level {i} is a single value per channel (shape {tuple(teacher.shape)}), '
                    'which batch normalisation cannot train on. Use a larger batch, or larger '
                    'images if this is a map; drop_last=True in the train_dataloader leaves out a '
                    'last batch of one.'
                )

    def teacher_losses(self, teachers: Sequence[Tensor]) -> Losses:
        """``loss_diff`` and ``loss_ae``: everything that needs the teacher alone (warm start)."""
        return self._encode_and_diffuse(teachers, self._denoising(refines=False))[1]

    def target_scales(self) -> list[Tensor | None]:
        levels = [self._level(i) for i in range(self.num_levels)]
        return [getattr(level.standardization, 'deviation', None) for level in levels]

    def _level(self, index: int) -> DiffKDLevel:
        return self.levels[index if len(self.levels) > 1 else 0]

    def _denoising(self, refines: bool) -> Denoising:
        levels = [self._level(i) for i in range(self.num_levels)]
        return Denoising(levels, bool(self.loss_diff_weight), refines)

    def _encode_and_diffuse(
        self, teachers: Sequence[Tensor], denoising: Denoising
    ) -> tuple[list[Tensor], Losses]:
        """Targets of all levels and the losses that train autoencoder and denoiser."""
        if self.training:
            self._check_batch(teachers)
        encoded = [self._level(i).encode(_as_map(x)) for i, x in enumerate(teachers)]
        latents = [target for target, _ in encoded]
        losses_ae = [loss for _, loss in encoded if loss is not None]
        losses = {}
        if self.loss_diff_weight:
            losses_diff = denoising.diffusion_losses(latents)
            losses['loss_diff'] = self.loss_diff_weight * torch.stack(losses_diff).sum()
        if losses_ae:
            losses['loss_ae'] = self.loss_ae_weight * sum(losses_ae)
        return latents, losses


def _as_map(x: Tensor) -> Tensor:
    """Maps, and vectors (B, C) as maps (B, C, 1, 1), channels last: 1×1 convs are products then."""
    x = x if x.dim() == 4 else x[:, :, None, None]
    return x.contiguous(memory_format=torch.channels_last)
