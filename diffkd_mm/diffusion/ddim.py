"""Noise schedule and deterministic DDIM sampling (DiffKD, Sec. 2.2 and appendix B.1).

The schedule is DDPM's (Ho et al. 2020, Sec. 4), the sampler DDIM's with η = 0 (Song et al. 2021,
eq. 12). Both are plain arithmetic, separate from the network that predicts the noise.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from .side_by_side import fork, weighted_sum


def gaussian_noise(x: Tensor) -> Tensor:
    """Draws ε ~ N(0, I) in the shape of a map, channels last.

    ``torch.randn_like`` of a channels-last map takes several times as long on the CPU.

    Args:
        x (Tensor): Map of shape (B, C, H, W); its dtype and device are taken.

    Returns:
        Tensor: Noise of the same shape.
    """
    batch, channels, height, width = x.shape
    noise = torch.randn(batch, height, width, channels, dtype=x.dtype, device=x.device)
    return noise.permute(0, 3, 1, 2)


class DDIMSampler(nn.Module):
    """Linear β schedule, forward noising, and a DDIM walk from a timestep down to the clean sample.

    N score evaluations divide the way from the initial timestep S to 0 into strides of s = S // N.
    Appendix B.1 says that S is 500 and not where in a stride the noise is predicted:

    - ``'leading'``, the authors' classification code: at its lower end, t = (N−1)s, …, s, 0. The
      walk then begins at S − s or a little below, so that more evaluations begin at a noisier
      timestep: 0, 332, 400, 450, 475 for 1, 3, 5, 10, 20.
    - ``'trailing'``, B.1 to the letter: at its upper end, t = S, S − s, …, S − (N−1)s. The walk
      begins at S with any number of evaluations.

    Each step moves to the next t, the last one to the clean sample.

    Args:
        num_inference_steps (int): Score evaluations N. Defaults to 5.
        num_train_timesteps (int): Timesteps T of the schedule. Defaults to 1000.
        beta_start (float): β of the first timestep. Defaults to 1e-4.
        beta_end (float): β of the last timestep. Defaults to 0.02.
        initial_timestep (int): S. Defaults to 500.
        timestep_spacing (str): ``'leading'`` or ``'trailing'``. Defaults to ``'leading'``.

    Raises:
        ValueError: If S is not a timestep, N not within 1 … S, or the spacing unknown.
    """

    alphas_cumprod: Tensor
    evaluated: Tensor  # self.timesteps as they are given to a network

    def __init__(
        self,
        num_inference_steps: int = 5,
        num_train_timesteps: int = 1000,
        beta_start: float = 1e-4,
        beta_end: float = 0.02,
        initial_timestep: int = 500,
        timestep_spacing: str = 'leading',
    ) -> None:
        super().__init__()
        if not 1 <= initial_timestep < num_train_timesteps:
            raise ValueError(
                f'initial_timestep={initial_timestep} must lie between 1 and '
                f'{num_train_timesteps - 1}.'
            )
        if not 1 <= num_inference_steps <= initial_timestep:
            raise ValueError(
                f'num_inference_steps={num_inference_steps} must lie between 1 and '
                f'{initial_timestep}, the initial timestep.'
            )
        if timestep_spacing not in ('leading', 'trailing'):
            raise ValueError(
                f"timestep_spacing={timestep_spacing!r} must be 'leading' or 'trailing'."
            )
        self.num_train_timesteps = num_train_timesteps
        stride = initial_timestep // num_inference_steps
        leading = timestep_spacing == 'leading'
        first = (num_inference_steps - 1) * stride if leading else initial_timestep
        self.timesteps = [first - i * stride for i in range(num_inference_steps)]
        betas = torch.linspace(beta_start, beta_end, num_train_timesteps, dtype=torch.float32)
        alphas_cumprod = torch.cumprod(1 - betas, dim=0)
        self.register_buffer('alphas_cumprod', alphas_cumprod, persistent=False)
        self.register_buffer('evaluated', torch.tensor(self.timesteps), persistent=False)
        # The same table as Python floats: a step then needs no gather and no device transfer.
        self._alphas_cumprod = alphas_cumprod.tolist()

    def add_noise(self, sample: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Diffuses a clean sample: x_t = √ᾱ_t·x_0 + √(1−ᾱ_t)·ε (DiffKD, eq. 3).

        Args:
            sample (Tensor): x_0 of shape (B, C, H, W).
            noise (Tensor): ε of the same shape.
            timesteps (Tensor): Integer timesteps t of shape (B,).

        Returns:
            Tensor: x_t of shape (B, C, H, W).
        """
        return self.add_noise_to_all([sample], [noise], [timesteps])[0]

    def add_noise_to_all(
        self, samples: Sequence[Tensor], noises: Sequence[Tensor], timesteps: Sequence[Tensor]
    ) -> list[Tensor]:
        """Diffuses the clean samples of several levels, see :meth:`add_noise`."""
        alphas = self.alphas_cumprod[torch.cat(list(timesteps))].to(samples[0].dtype)
        alphas = alphas[:, None, None, None]
        batches = [len(x) for x in samples]
        scales = alphas.sqrt().split(batches), (1 - alphas).sqrt().split(batches)
        return [
            torch.addcmul(sample_scale * sample, noise_scale, noise)
            for sample, noise, sample_scale, noise_scale in zip(samples, noises, *scales)
        ]

    def step(
        self,
        noise_preds: Sequence[Tensor],
        timestep: int,
        samples: Sequence[Tensor],
        next_timestep: int | None,
    ) -> Sequence[Tensor]:
        """Moves towards the clean sample (DDIM, eq. 12 with σ = 0).

        x_0 = (x_t − √(1−ᾱ_t)·ε) / √ᾱ_t and x_s = √ᾱ_s·x_0 + √(1−ᾱ_s)·ε, gathered into one
        weighted sum.

        Args:
            noise_preds (Sequence[Tensor]): Predicted ε of shape (B, C, H, W), one per level.
            timestep (int): t, at which the noise was predicted.
            samples (Sequence[Tensor]): x_t of the same shapes.
            next_timestep (int, optional): s < t. None: the clean sample, with ᾱ = 1.

        Returns:
            Sequence[Tensor]: x_s of the same shapes.
        """
        alpha = self._alphas_cumprod[timestep]
        next_alpha = 1.0 if next_timestep is None else self._alphas_cumprod[next_timestep]
        scale = math.sqrt(next_alpha / alpha)
        noise_scale = math.sqrt(1 - next_alpha) - scale * math.sqrt(1 - alpha)
        return weighted_sum(samples, noise_preds, scale, noise_scale)

    def denoise(self, sample: Tensor, predict_noise: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """Runs all N steps.

        Args:
            sample (Tensor): Noisy x_T of shape (B, C, H, W).
            predict_noise (Callable): Φ(x_t, t) with t as an integer tensor of shape (1,).

        Returns:
            Tensor: The denoised sample of shape (B, C, H, W), in the dtype of ``sample``.
        """
        return self.denoise_all([sample], lambda xs, t: [predict_noise(xs[0], t)])[0]

    def denoise_all(
        self,
        samples: Sequence[Tensor],
        predict_noise: Callable[[Sequence[Tensor], Tensor], Sequence[Tensor]],
    ) -> Sequence[Tensor]:
        """Runs all N steps for several levels, see :meth:`denoise`.

        Args:
            samples (Sequence[Tensor]): Noisy x_T of shape (B, C, H, W), one per level.
            predict_noise (Callable): Φ of all levels, with t as an integer tensor of shape (1,).

        Returns:
            Sequence[Tensor]: The denoised samples of the same shapes and dtypes.
        """
        steps = zip(self.timesteps, self.evaluated.split(1), [*self.timesteps[1:], None])
        for timestep, timesteps, next_timestep in steps:
            samples, inputs = fork(samples)
            noise_preds = predict_noise(inputs, timesteps)
            noise_preds = [y.to(x.dtype) for x, y in zip(samples, noise_preds)]
            samples = self.step(noise_preds, timestep, samples, next_timestep)
        return samples
