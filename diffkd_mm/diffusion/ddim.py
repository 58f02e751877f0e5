"""Noise schedule and deterministic DDIM sampling (DiffKD, Sec. 2.2 and appendix B.1).

The schedule is DDPM's (Ho et al. 2020, Sec. 4), the sampler DDIM's with η = 0 (Song et al. 2021,
eq. 12). Both are plain arithmetic, separate from the network that predicts the noise.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn


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
    """Linear β schedule, forward noising, and a DDIM walk over its lower half.

    With N score evaluations the stride is s = T // 2N and the noise is predicted at
    t = (N−1)s, …, s, 0; each step moves to t − s, and below 0 to the clean sample. For N = 5 and
    T = 1000 that is 400, 300, 200, 100, 0: the paper's "initial timestep 500" whose first interval
    is evaluated at its lower end.

    Args:
        num_inference_steps (int): Score evaluations N. Defaults to 5.
        num_train_timesteps (int): Timesteps T of the schedule. Defaults to 1000.
        beta_start (float): β of the first timestep. Defaults to 1e-4.
        beta_end (float): β of the last timestep. Defaults to 0.02.

    Raises:
        ValueError: If N is not within 1 … T/2.
    """

    alphas_cumprod: Tensor

    def __init__(
        self,
        num_inference_steps: int = 5,
        num_train_timesteps: int = 1000,
        beta_start: float = 1e-4,
        beta_end: float = 0.02,
    ) -> None:
        super().__init__()
        if not 1 <= num_inference_steps <= num_train_timesteps // 2:
            raise ValueError(
                f'num_inference_steps={num_inference_steps} must lie between 1 and '
                f'{num_train_timesteps // 2}, half of the training timesteps.'
            )
        self.num_train_timesteps = num_train_timesteps
        self.stride = num_train_timesteps // (2 * num_inference_steps)
        self.timesteps = [i * self.stride for i in reversed(range(num_inference_steps))]
        betas = torch.linspace(beta_start, beta_end, num_train_timesteps, dtype=torch.float32)
        alphas_cumprod = torch.cumprod(1 - betas, dim=0)
        self.register_buffer('alphas_cumprod', alphas_cumprod, persistent=False)
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
        alpha = self.alphas_cumprod[timesteps].to(sample.dtype)[:, None, None, None]
        return alpha.sqrt() * sample + (1 - alpha).sqrt() * noise

    def step(self, noise_pred: Tensor, timestep: int, sample: Tensor) -> Tensor:
        """Moves one stride towards the clean sample (DDIM, eq. 12 with σ = 0).

        x_0 = (x_t − √(1−ᾱ_t)·ε) / √ᾱ_t and x_{t−s} = √ᾱ_{t−s}·x_0 + √(1−ᾱ_{t−s})·ε, gathered into
        one multiplication and one addition.

        Args:
            noise_pred (Tensor): Predicted ε of shape (B, C, H, W).
            timestep (int): t, at which the noise was predicted.
            sample (Tensor): x_t of the same shape.

        Returns:
            Tensor: x_{t−s} of the same shape.
        """
        alpha = self._alphas_cumprod[timestep]
        previous = timestep - self.stride
        alpha_previous = self._alphas_cumprod[previous] if previous >= 0 else 1.0
        scale = math.sqrt(alpha_previous / alpha)
        # Added in place: the product is new and no gradient needs it.
        return (sample * scale).add_(
            noise_pred, alpha=math.sqrt(1 - alpha_previous) - scale * math.sqrt(1 - alpha)
        )

    def denoise(self, sample: Tensor, predict_noise: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """Runs all N steps.

        Args:
            sample (Tensor): Noisy x_T of shape (B, C, H, W).
            predict_noise (Callable): Φ(x_t, t) with t as an integer tensor of shape (1,).

        Returns:
            Tensor: The denoised sample of shape (B, C, H, W), in the dtype of ``sample``.
        """
        for timestep in self.timesteps:
            noise_pred = predict_noise(sample, torch.full((1,), timestep, device=sample.device))
            sample = self.step(noise_pred.to(sample.dtype), timestep, sample)
        return sample
