"""The baseline of KDiffusion's tables: no chain, the branches' mean is compared."""

from collections.abc import Sequence

from torch import Tensor, nn

from ..registry import MODELS


@MODELS.register_module()
class AverageChain(nn.Module):
    """Compares the mean of the branches with the teacher's feature ("Average" of the slides)."""

    def forward(
        self, branches: Sequence[Tensor], teacher: Tensor
    ) -> tuple[list[Tensor], list[Tensor]]:
        """One pair: the mean of the branches, and the teacher's feature, both of one shape."""
        return [sum(x.float() for x in branches) / len(branches)], [teacher.float().detach()]
