"""Parallel branches in the place of a linear layer (KDiffusion, eq. 7 and 15)."""

from copy import deepcopy

import torch
from torch import Tensor, nn

# The child of :class:`Branches` that outputs the branches' features one by one, for a tap.
STATES = 'states'


class Branches(nn.Module):
    """The mean of m linear layers of the same input, each with a batch norm of its own.

    Args:
        layer (nn.Module): The layer, a convolution or ``nn.Linear``; the branches are copies.
        norm (nn.Module, optional): The batch norm behind it, which the branches take in.
        num_branches (int): Number m of branches.
        norm_name (str): Path of the batch norm from the module that holds both.
    """

    folds_into: Tensor

    def __init__(
        self, layer: nn.Module, norm: nn.Module | None, num_branches: int, norm_name: str = ''
    ) -> None:
        super().__init__()
        self.branches = nn.ModuleList()
        for _ in range(num_branches):
            branch = nn.Module()
            branch.layer = deepcopy(layer)
            if norm is not None:
                branch.norm = deepcopy(norm)
            self.branches.append(branch)
        self.states = nn.Identity()
        # What a checkpoint must say to be folded without a config, as text.
        self.register_buffer('folds_into', encode(norm_name, getattr(norm, 'eps', 0.0)))

    def forward(self, x: Tensor) -> Tensor:
        """The mean of the branches' outputs; ``states`` outputs them as a tuple."""
        outputs = []
        for branch in self.branches:
            y = branch.layer(x)
            outputs.append(branch.norm(y) if hasattr(branch, 'norm') else y)
        return torch.stack(self.states(tuple(outputs))).mean(dim=0)


class NormInBranches(nn.Identity):
    """Stands where the batch norm was that is in the branches now."""


def encode(norm_name: str, eps: float) -> Tensor:
    """The batch norm's name and ε as bytes in a tensor: a state dict holds nothing else."""
    return torch.tensor(list(f'{norm_name} {eps!r}'.encode()), dtype=torch.uint8)


def decode(folds_into: Tensor) -> tuple[str, float]:
    """The batch norm's name, empty if there is none, and its ε."""
    name, eps = bytes(folds_into.tolist()).decode().split(' ')
    return name, float(eps)
