"""Losses that are not finite end a training before they reach the weights."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn


def check_finite(total: Tensor, losses: Mapping[str, Tensor], model: nn.Module) -> None:
    """Checks the sum of all losses.

    Args:
        total (Tensor): The sum.
        losses (Mapping[str, Tensor]): The losses by their names.
        model (nn.Module): What they train.

    Raises:
        FloatingPointError: Names the losses that are NaN or infinite, and what is to blame.
    """
    if torch.isfinite(total):
        return
    bad = ', '.join(f'{k}={v.item()}' for k, v in losses.items() if not v.isfinite())
    spoilt = [name for name, p in model.named_parameters() if not p.isfinite().all()]
    reason = 'training stops before this reaches the weights'
    if spoilt:
        reason = f'an earlier gradient made {spoilt[0]} so and {len(spoilt) - 1} others'
    raise FloatingPointError(
        f'{bad}: {reason}. Lower the learning rate or a loss weight, clip gradients, or use '
        'bfloat16 or float32 in place of float16, and go on with --resume.'
    )
