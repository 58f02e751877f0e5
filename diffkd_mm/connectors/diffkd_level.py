"""The modules of one level, and the uses that a step makes of the denoisers of all."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..diffusion import DDIMSampler, Standardization
from ..diffusion.ddim import gaussian_noise
from ..diffusion.denoisers import predict_noise
from ..diffusion.layers import PointwiseConv, build_norm
from ..diffusion.noise_adapter import match_noise
from ..diffusion.side_by_side import run_all
from ..registry import build_model
from .checkpointing import checkpoint_without_norm_update
from .parameters import ParameterSlots


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
            latent = dict(in_channels=teacher_channels, latent_channels=channels, norm_cfg=norm_cfg)
            self.autoencoder = build_model({**latent, **autoencoder})
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

    def alignment_loss(self, student: Tensor, target: Tensor) -> Tensor:
        """MSE between projected student map and target, which trains the projection alone."""
        return F.mse_loss(self.student_projection(student.detach()).float(), target)


class Denoising:
    """The uses that a step makes of the denoisers of levels, which have equal options.

    Args:
        levels (Sequence[DiffKDLevel]): The levels.
        trains (bool): Whether the teacher's features train the denoisers. Defaults to False.
        refines (bool): Whether the denoisers refine the student's features. Defaults to True.
    """

    def __init__(
        self, levels: Sequence[DiffKDLevel], trains: bool = False, refines: bool = True
    ) -> None:
        self.levels = levels
        self.sampler, self.with_cp = levels[0].sampler, levels[0].with_cp
        self.denoisers = [level.denoiser for level in levels]
        self.parameters = ParameterSlots(self.denoisers)
        number = len(self.sampler.timesteps) if refines else 0
        if levels[0].kd_trains_denoiser:
            self.uses = iter(self.parameters.for_uses(trains + number))
        else:
            constants = self.parameters.constants()
            self.uses = iter(self.parameters.for_uses(int(trains)) + [constants] * number)

    def diffusion_losses(self, latents: Sequence[Tensor]) -> list[Tensor]:
        """MSE(Φ(x_t, t), ε) of every level, with one random timestep per sample (eq. 4)."""
        noises, timesteps = zip(*map(self._draw, latents))
        noisy = self.sampler.add_noise_to_all(latents, noises, timesteps)
        noise_preds = self._predict(noisy, timesteps)
        # Channels last as the memory is: the loss's gradient would not follow the layout.
        return [
            F.mse_loss(x.float().permute(0, 2, 3, 1), y.permute(0, 2, 3, 1))
            for x, y in zip(noise_preds, noises)
        ]

    def denoise(
        self, students: Sequence[Tensor]
    ) -> tuple[Sequence[Tensor], Sequence[Tensor | None]]:
        """Projected, noised and denoised student maps, and γ of shape (B,) of each."""
        samples = [level.student_projection(x).float() for level, x in zip(self.levels, students)]
        noise_weights = [None] * len(samples)
        adapters = [level.noise_adapter for level in self.levels]
        if None not in adapters:
            noises = [gaussian_noise(x) for x in samples]
            samples, noise_weights = match_noise(adapters, samples, noises)
        samples = self.sampler.denoise_all(samples, lambda xs, t: self._predict(xs, [t] * len(xs)))
        refined = run_all([level.output_projection for level in self.levels], samples)
        return refined, noise_weights

    def _draw(self, latent: Tensor) -> tuple[Tensor, Tensor]:
        """Noise for a map, and one timestep per sample."""
        timesteps = self.sampler.num_train_timesteps
        noise = gaussian_noise(latent)
        return noise, torch.randint(timesteps, (len(latent),), device=latent.device)

    def _predict(self, maps: Sequence[Tensor], timesteps: Sequence[Tensor]) -> Sequence[Tensor]:
        parameters = next(self.uses)

        def predict(*maps: Tensor) -> Sequence[Tensor]:
            with self.parameters.hold(parameters):
                return predict_noise(self.denoisers, maps, timesteps)

        if self.with_cp and torch.is_grad_enabled():
            return checkpoint_without_norm_update(predict, self.denoisers, *maps)
        return predict(*maps)
