"""KDiffusion's objective on the branches of a layer (Yao et al. 2024, eq. 8–12)."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from ..diffusion.feature_chain import amplitudes, transfer_pairs
from ..registry import MODELS


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
    """

    def __init__(
        self,
        schedule: Literal['cosine', 'linear'] = 'cosine',
        state: Literal['forward', 'posterior'] = 'forward',
        shuffle: bool = True,
        detach_noise: bool = True,
    ) -> None:
        super().__init__()
        self.schedule = schedule
        self.state = state
        self.shuffle = shuffle
        self.detach_noise = detach_noise

    def forward(
        self, branches: Sequence[Tensor], teacher: Tensor
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Pairs to compare, one per step.

        Args:
            branches (Sequence[Tensor]): The branches' features, behind the bridge, each of the
                teacher's shape, (B, C, H, W) or (B, C).
            teacher (Tensor): The teacher's feature x_0.

        Returns:
            tuple[list[Tensor], list[Tensor]]: Posterior means of student and teacher per step
            (eq. 12).
        """
        branches = [x.float() for x in branches]
        teacher = teacher.float().detach()
        if self.shuffle:
            branches = [branches[i] for i in torch.randperm(len(branches))]
        noise = branches[0].detach() if self.detach_noise else branches[0]
        alphas = amplitudes(len(branches), self.schedule)
        return transfer_pairs(branches, teacher, alphas, self.state, noise)
