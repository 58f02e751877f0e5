"""KDiffusion's objective on the branches of a layer (Yao et al. 2024, eq. 8–14)."""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..diffusion.feature_chain import amplitudes, transfer_pairs
from ..errors import DistillationError
from ..options import NonNegativeFloat
from ..registry import MODELS

Losses = dict[str, Tensor]


@MODELS.register_module()
class KDiffusionChain(nn.Module):
    """The steps from a student to a teacher, one per branch of the student's layer.

    It has no parameters and no part in the checkpoint. What of it the slides leave open is named
    with the options.

    Args:
        schedule (str): α̂ of the states, see :func:`~diffkd_mm.diffusion.feature_chain.amplitudes`.
            ``'cosine'`` or ``'linear'``. Open in the slides. Defaults to ``'cosine'``.
        state (str): How the student's state is made from its earlier branches, f of eq. 12:
            ``'forward'`` (eq. 4 with a branch as x_0) or ``'posterior'`` (the posterior mean of the
            step before). Open in the slides. Defaults to ``'forward'``.
        shuffle (bool): In every iteration another order of the branches. Defaults to True.
        detach_noise (bool): Whether the branch that is the noise is a constant in this role; as
            its step's prediction it is trained. Open in the slides. Defaults to True.
        guidance (str, optional): Path of the teacher's linear layer (convolution or linear) that
            takes the tapped feature, for target guidance (eq. 14). A linear layer on a map takes
            the map's mean, as behind a pooling. Defaults to None: no guidance.
        guidance_weight (float): Weight of ``loss_guide``. Open in the slides. Defaults to 1.0.
    """

    def __init__(
        self,
        schedule: Literal['cosine', 'linear'] = 'cosine',
        state: Literal['forward', 'posterior'] = 'forward',
        shuffle: bool = True,
        detach_noise: bool = True,
        guidance: str | None = None,
        guidance_weight: NonNegativeFloat = 1.0,
    ) -> None:
        super().__init__()
        self.schedule = schedule
        self.state = state
        self.shuffle = shuffle
        self.detach_noise = detach_noise
        self.guidance = guidance
        self.guidance_weight = guidance_weight

    def forward(
        self,
        branches: Sequence[Tensor],
        teacher: Tensor,
        guide: nn.Module | None = None,
        scale: Tensor | None = None,
    ) -> tuple[list[Tensor], list[Tensor], Losses]:
        """Pairs to compare, one per step.

        Args:
            branches (Sequence[Tensor]): The branches' features, behind the bridge, each of the
                teacher's shape, (B, C, H, W) or (B, C).
            teacher (Tensor): The teacher's feature x_0.
            guide (nn.Module, optional): The teacher's next layer, if there is guidance.
            scale (Tensor, optional): What brings x_0 back to the units that this layer takes, of
                shape (C,) or (1,). Defaults to 1.

        Returns:
            tuple: Posterior means of student and teacher per step (eq. 12), and a dict with
            ``loss_guide`` (eq. 14) if there is guidance.
        """
        branches = [x.float() for x in branches]
        teacher = teacher.float().detach()
        losses = {}
        if guide is not None:
            # The network passes on the mean of its branches: this is its x̂_0.
            difference = teacher - sum(branches) / len(branches)
            if scale is not None:
                difference = difference * scale.view(-1, *[1] * (difference.dim() - 2))
            guided = apply_weights(guide, difference)
            losses['loss_guide'] = self.guidance_weight * guided.float().square().mean()
        if self.shuffle:
            branches = [branches[i] for i in torch.randperm(len(branches))]
        noise = branches[0].detach() if self.detach_noise else branches[0]
        alphas = amplitudes(len(branches), self.schedule)
        predictions, targets = transfer_pairs(branches, teacher, alphas, self.state, noise)
        return predictions, targets, losses

    def check_guide(self, guide: nn.Module, channels: int) -> None:
        """The guiding layer is linear and takes the tapped feature.

        Args:
            guide (nn.Module): The teacher's layer at ``guidance``.
            channels (int): Channels of the teacher's feature.

        Raises:
            DistillationError: Says what was found and what to name instead.
        """
        hint = (
            'Name the linear layer or convolution of the teacher that takes the tapped feature, '
            "such as 'head.fc', or leave guidance out."
        )
        if not isinstance(guide, (nn.Linear, nn.Conv2d)):
            raise DistillationError(
                f'chain: guidance={self.guidance!r} is a {type(guide).__name__} and not a linear '
                f'layer. {hint}'
            )
        takes = guide.weight.size(1) * getattr(guide, 'groups', 1)
        if takes != channels:
            raise DistillationError(
                f'chain: guidance={self.guidance!r} takes {takes} channels, and the tapped feature '
                f'of the teacher has {channels}. {hint}'
            )


def apply_weights(layer: nn.Module, x: Tensor) -> Tensor:
    """Applies a layer's weights as constants, without bias (eq. 14), to (B, C, H, W) or (B, C)."""
    weight = layer.weight.detach().to(x.dtype)
    if isinstance(layer, nn.Linear):
        return F.linear(x.mean((2, 3)) if x.dim() == 4 else x, weight)
    x = x if x.dim() == 4 else x[:, :, None, None]
    padding = layer.padding if layer.padding_mode == 'zeros' else 0
    return F.conv2d(x, weight, None, layer.stride, padding, layer.dilation, layer.groups)
