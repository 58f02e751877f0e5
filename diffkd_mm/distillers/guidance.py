"""Target guidance: features compared through the teacher's next layer (Yao et al. 2024, eq. 14)."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import DistillationError


def guidance_loss(
    layer: nn.Module,
    estimates: Sequence[Tensor],
    targets: Sequence[Tensor],
    scales: Sequence[Tensor | None],
) -> Tensor:
    """Mean of ((x_0 − x̂_0)·w)², w the layer's weights, summed over the levels.

    Args:
        layer (nn.Module): The teacher's convolution or linear layer that takes the feature.
        estimates (Sequence[Tensor]): x̂_0 of every level, (B, C, H, W) or (B, C): what the student
            gives behind the connector.
        targets (Sequence[Tensor]): x_0, the teacher's features, of the same shapes.
        scales (Sequence[Tensor | None]): What brings differences of a level to the units that the
            layer takes, of shape (C,) or (1,). None: 1.

    Returns:
        Tensor: A scalar.
    """
    loss = 0
    for estimate, target, scale in zip(estimates, targets, scales):
        difference = target.detach().float() - estimate.float()
        if scale is not None:
            difference = difference * scale.view(-1, *[1] * (difference.dim() - 2))
        loss = loss + apply_weights(layer, difference).float().square().mean()
    return loss


def apply_weights(layer: nn.Module, x: Tensor) -> Tensor:
    """Applies a layer's weights as constants, without bias (eq. 14), to (B, C, H, W) or (B, C).

    A linear layer on a map takes the map's mean, as behind a pooling.
    """
    weight = layer.weight.detach().to(x.dtype)
    if isinstance(layer, nn.Linear):
        return F.linear(x.mean((2, 3)) if x.dim() == 4 else x, weight)
    x = x if x.dim() == 4 else x[:, :, None, None]
    padding = layer.padding if layer.padding_mode == 'zeros' else 0
    return F.conv2d(x, weight, None, layer.stride, padding, layer.dilation, layer.groups)


def check_guide(path: str, layer: nn.Module, channels: Sequence[int]) -> None:
    """The guiding layer is linear and takes the tapped feature.

    Args:
        path (str): The teacher's layer, as the config names it.
        layer (nn.Module): What is there.
        channels (Sequence[int]): Channels of the teacher's levels.

    Raises:
        DistillationError: Says what was found and what to name instead.
    """
    hint = (
        'Name the linear layer or convolution of the teacher that takes the tapped feature, '
        "such as 'head.fc', or leave guidance out."
    )
    if not isinstance(layer, (nn.Linear, nn.Conv2d)):
        raise DistillationError(
            f'guidance={path!r} is a {type(layer).__name__} and not a linear layer. {hint}'
        )
    takes = layer.weight.size(1) * getattr(layer, 'groups', 1)
    if other := [number for number in channels if number != takes]:
        raise DistillationError(
            f'guidance={path!r} takes {takes} channels, and the tapped feature of the teacher has '
            f'{other[0]}. {hint}'
        )
