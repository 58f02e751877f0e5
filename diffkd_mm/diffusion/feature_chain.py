"""A diffusion chain from student features to a teacher feature (KDiffusion, Yao et al. 2024).

The noise is a student feature x^S ~ N(0, σ_S²) and not a draw from N(0, I). α̂ is an amplitude,
the square root of what DDPM calls ᾱ.
"""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

Schedule = Literal['cosine', 'linear']


class Posterior(NamedTuple):
    """q(x_s | x_n, x_0) = N(u·x_n + v·x_0, w·σ_S²) of KDiffusion's eq. 10."""

    u: float
    v: float
    w: float


def amplitudes(num_steps: int, schedule: Schedule = 'cosine') -> list[float]:
    """α̂ at the ends of the steps of a chain.

    ``'cosine'``: α̂ = cos(πs/2n), 0 at the far end, where nothing of the teacher is left.
    ``'linear'``: √ᾱ of DDPM's schedule (1000 timesteps, β from 1e-4 to 0.02), at equal distances;
    0.006 at the far end.

    Args:
        num_steps (int): Steps n of the chain.
        schedule (str): ``'cosine'`` or ``'linear'``.

    Returns:
        list[float]: α̂_0 = 1 (the teacher), α̂_1, …, α̂_n (the student).
    """
    if schedule == 'cosine':
        inner = [math.cos(math.pi * s / (2 * num_steps)) for s in range(1, num_steps)]
        return [1.0, *inner, 0.0]
    betas = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    cumulative = torch.cumprod(1 - betas, dim=0).sqrt().tolist()
    ends = [round(1000 * s / num_steps) for s in range(1, num_steps + 1)]
    return [1.0, *(cumulative[end - 1] for end in ends)]


def noise_amplitude(alpha: float) -> float:
    """β̂ of eq. 4 and 8: β̂² = 1 − α̂²."""
    return math.sqrt(1 - alpha**2)


def add_student(teacher: Tensor, student: Tensor, alpha: float) -> Tensor:
    """A state of the forward chain, x_t = α̂_t·x_0 + β̂_t·x^S (eq. 4 and 8).

    Args:
        teacher (Tensor): x_0, the teacher's feature.
        student (Tensor): x^S, a student's feature of the same shape.
        alpha (float): α̂_t.
    """
    return alpha * teacher + noise_amplitude(alpha) * student


def posterior(alpha_from: float, alpha_to: float) -> Posterior:
    """The coefficients of eq. 10 for a step from state n to state s, closer to the teacher.

    Args:
        alpha_from (float): α̂_n.
        alpha_to (float): α̂_s, larger.

    Returns:
        Posterior: With a = α̂_n/α̂_s and b² = 1 − a²: u = β̂_s²·a/β̂_n², v = b²·α̂_s/β̂_n²,
        w = b²·β̂_s²/β̂_n².
    """
    a = alpha_from / alpha_to
    b2 = 1 - a**2
    beta2_from, beta2_to = 1 - alpha_from**2, 1 - alpha_to**2
    return Posterior(
        beta2_to * a / beta2_from, b2 * alpha_to / beta2_from, b2 * beta2_to / beta2_from
    )


def student_states(
    branches: Sequence[Tensor],
    alphas: Sequence[float],
    state: Literal['posterior', 'forward'],
    noise: Tensor,
) -> list[Tensor]:
    """f of eq. 12: the states x_n, …, x_1 as the student makes them from its earlier branches.

    Args:
        branches (Sequence[Tensor]): x^S_n, …, x^S_1, each the prediction of x_0 in its step.
        alphas (Sequence[float]): α̂_0, …, α̂_n, see :func:`amplitudes`.
        state (str): ``'posterior'``: the posterior mean that the step before arrived at.
            ``'forward'``: eq. 4 with the prediction of the step before in x_0's place.
        noise (Tensor): x^S_n in its role as the noise, where the chain begins.

    Returns:
        list[Tensor]: One state per branch; the first is the noise itself.
    """
    states = [noise]
    for i in range(len(branches) - 1):
        s = len(branches) - i
        if state == 'posterior':
            u, v, _ = posterior(alphas[s], alphas[s - 1])
            states.append(u * states[-1] + v * branches[i])
        else:
            states.append(add_student(branches[i], noise, alphas[s - 1]))
    return states


def transfer_pairs(
    branches: Sequence[Tensor],
    teacher: Tensor,
    alphas: Sequence[float],
    state: Literal['posterior', 'forward'] = 'forward',
    noise: Tensor | None = None,
) -> tuple[list[Tensor], list[Tensor]]:
    """Both sides of the objective, eq. 12, for every step from the student to the teacher.

    Step s → s−1 compares u·f(earlier branches) + v·x^S_s with u·x_s + v·x_0.

    Args:
        branches (Sequence[Tensor]): x^S_n, …, x^S_1.
        teacher (Tensor): x_0 of the same shape.
        alphas (Sequence[float]): α̂_0, …, α̂_n.
        state (str): The form of f, see :func:`student_states`.
        noise (Tensor, optional): x^S_n in its role as the noise. Defaults to the first branch.

    Returns:
        tuple: Posterior means of the student and of the teacher, one per step.
    """
    noise = branches[0] if noise is None else noise
    predictions, targets = [], []
    states = student_states(branches, alphas, state, noise)
    for i, (x, branch) in enumerate(zip(states, branches)):
        s = len(branches) - i
        u, v, _ = posterior(alphas[s], alphas[s - 1])
        predictions.append(u * x + v * branch)
        targets.append(u * add_student(teacher, noise, alphas[s]) + v * teacher)
    return predictions, targets
