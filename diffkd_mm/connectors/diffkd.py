"""The DiffKD connector: denoises student features before they are compared (DiffKD, Sec. 3)."""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm

from ..diffusion import DDIMSampler, Standardization
from ..diffusion.ddim import gaussian_noise
from ..diffusion.layers import PointwiseConv, build_norm
from ..errors import DistillationError
from ..options import NonNegativeFloat, PositiveInt
from ..registry import MODELS, build_model
from .base import Channels, Connector, Losses
from .checkpointing import checkpoint_without_norm_update


class DiffKDLevel(nn.Module):
    """DiffKD for one level (Fig. 3): its options are those of :class:`DiffKDConnector`."""

    def __init__(
        self,
        student_channels: int,
        teacher_channels: int,
        latent_channels: int | None,
        autoencoder: dict,
        denoiser: dict,
        noise_adapter: dict | None,
        output_projection: bool,
        standardize: str | None,
        norm_cfg: dict,
        sampler: DDIMSampler,
        kd_trains_denoiser: bool,
        with_cp: bool,
    ) -> None:
        super().__init__()
        self.sampler = sampler
        self.kd_trains_denoiser = kd_trains_denoiser
        self.with_cp = with_cp
        channels = latent_channels or teacher_channels
        self.standardization = (
            Standardization(teacher_channels, standardize) if standardize is not None else None
        )
        self.autoencoder = None
        if latent_channels is not None:
            self.autoencoder = build_model(
                dict(
                    in_channels=teacher_channels,
                    latent_channels=channels,
                    norm_cfg=norm_cfg,
                    **autoencoder,
                )
            )
        network = dict(channels=channels, norm_cfg=norm_cfg)
        self.student_projection = PointwiseConv(student_channels, channels)
        self.noise_adapter = None
        if noise_adapter is not None:
            self.noise_adapter = build_model({**network, **noise_adapter})
        self.denoiser = build_model({**network, **denoiser})
        self.output_projection: nn.Module = nn.Identity()
        if output_projection:
            self.output_projection = nn.Sequential(
                PointwiseConv(channels, channels), build_norm(norm_cfg, channels)
            )

    def encode(self, teacher: Tensor) -> tuple[Tensor, Tensor | None]:
        """The target of a teacher map (B, C_t, H, W), of shape (B, C, H, W), and ``loss_ae``."""
        target = teacher.detach()
        loss_ae = None
        if self.standardization is not None:
            target = self.standardization(target)
        if self.autoencoder is not None:
            latent, reconstruction = self.autoencoder(target)
            if reconstruction is not None:
                loss_ae = F.mse_loss(reconstruction.float(), target.float())
            target = latent.detach()
        return target.float(), loss_ae

    def diffusion_loss(self, latent: Tensor) -> Tensor:
        """MSE(Φ(x_t, t), ε) with one random timestep per sample (eq. 4)."""
        noise = gaussian_noise(latent)
        timesteps = torch.randint(
            self.sampler.num_train_timesteps, (latent.size(0),), device=latent.device
        )
        noisy = self.sampler.add_noise(latent, noise, timesteps)
        noise_pred = self._predict_noise(self.denoiser, noisy, timesteps).float()
        # Channels last as the memory is: the loss's gradient would not follow the layout.
        return F.mse_loss(noise_pred.permute(0, 2, 3, 1), noise.permute(0, 2, 3, 1))

    def alignment_loss(self, student: Tensor, target: Tensor) -> Tensor:
        """MSE between projected student map and target, which trains the projection alone."""
        return F.mse_loss(self.student_projection(student.detach()).float(), target)

    def denoise(self, student: Tensor) -> tuple[Tensor, Tensor | None]:
        """Projected, noised (eq. 8) and denoised student map, and γ of shape (B,)."""
        sample = self.student_projection(student).float()
        noise_weight = None
        if self.noise_adapter is not None:
            sample, noise_weight = self.noise_adapter(sample, gaussian_noise(sample))
        denoiser = self.denoiser if self.kd_trains_denoiser else _Frozen(self.denoiser)
        sample = self.sampler.denoise(
            sample, lambda x, timesteps: self._predict_noise(denoiser, x, timesteps)
        )
        return self.output_projection(sample), noise_weight

    def _predict_noise(self, denoiser, x: Tensor, timesteps: Tensor) -> Tensor:
        if self.with_cp and torch.is_grad_enabled():
            return checkpoint_without_norm_update(denoiser, x, timesteps)
        return denoiser(x, timesteps)


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
        autoencoder (dict, optional): What makes the latent, if there is one. Defaults to
            ``dict(type='LinearAutoencoder')``; ``PCAProjection`` and ``RandomProjection`` do not
            learn.
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
            computed; with ``noise_adapter=None`` the connector is then a deep projector, the same
            layers trained by the distillation loss alone.
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
        self.levels = nn.ModuleList(
            DiffKDLevel(
                student,
                teacher,
                latent_channels,
                autoencoder or dict(type='LinearAutoencoder'),
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
        latents, losses = self._encode_and_diffuse(teachers)
        refined, noise_weights = [], []
        for i, student in enumerate(students):
            feature, noise_weight = self._level(i).denoise(_as_map(student))
            refined.append(feature)
            if noise_weight is not None:
                noise_weights.append(noise_weight.mean())
        if self.loss_align_weight:
            losses_align = [
                self._level(i).alignment_loss(_as_map(student), target)
                for i, (student, target) in enumerate(zip(students, latents))
            ]
            losses['loss_align'] = self.loss_align_weight * sum(losses_align)
        if noise_weights:
            losses['noise_weight'] = torch.stack(noise_weights).mean().detach()
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
        return self._encode_and_diffuse(teachers)[1]

    def target_scales(self) -> list[Tensor | None]:
        levels = [self._level(i) for i in range(self.num_levels)]
        return [getattr(level.standardization, 'deviation', None) for level in levels]

    def _level(self, index: int) -> DiffKDLevel:
        return self.levels[index if len(self.levels) > 1 else 0]

    def _encode_and_diffuse(self, teachers: Sequence[Tensor]) -> tuple[list[Tensor], Losses]:
        """Targets of all levels and the losses that train autoencoder and denoiser."""
        if self.training:
            self._check_batch(teachers)
        latents, losses_diff, losses_ae = [], [], []
        for i, teacher in enumerate(teachers):
            level = self._level(i)
            target, loss_ae = level.encode(_as_map(teacher))
            if loss_ae is not None:
                losses_ae.append(loss_ae)
            if self.loss_diff_weight:
                losses_diff.append(level.diffusion_loss(target))
            latents.append(target)
        losses = {}
        if losses_diff:
            losses['loss_diff'] = self.loss_diff_weight * sum(losses_diff)
        if losses_ae:
            losses['loss_ae'] = self.loss_ae_weight * sum(losses_ae)
        return latents, losses


class _Frozen:
    """Calls a module with its parameters as constants: gradients pass through, none arrive."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.parameters = {name: p.detach() for name, p in module.named_parameters()}

    def __call__(self, *args: Tensor) -> Tensor:
        return functional_call(self.module, self.parameters, args)

    def modules(self):
        return self.module.modules()


def _as_map(x: Tensor) -> Tensor:
    """Maps, and vectors (B, C) as maps (B, C, 1, 1), channels last: 1×1 convs are products then."""
    x = x if x.dim() == 4 else x[:, :, None, None]
    return x.contiguous(memory_format=torch.channels_last)
