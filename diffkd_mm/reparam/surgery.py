"""The surgery: layers of a student become several parallel ones."""

from collections.abc import Mapping, Sequence
from functools import partial
from zlib import crc32

import torch
from mmcv.cnn import ConvModule
from mmcv.cnn.bricks import wrappers
from mmcv.cnn.bricks.conv2d_adaptive_padding import Conv2dAdaptivePadding
from mmengine.model import kaiming_init
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.parametrize import is_parametrized

from ..errors import DistillationError
from ..options import NonNegativeFloat
from ..taps import check_tap, follow
from .branches import Branches, NormInBranches

_LINEAR = (nn.Conv2d, nn.Linear, wrappers.Conv2d, wrappers.Linear, Conv2dAdaptivePadding)


class Surgery:
    """Which layers of a student become branches, and how many.

    Weights that a student's file holds for such a layer are those of every branch, plus noise that
    differs from branch to branch and is zero in their mean; so the student computes in evaluation
    what it computed before. The noise is the same in every process and with every seed. A student
    that is trained from scratch gets the initialisation of its config in each branch, drawn anew.

    Args:
        layers (Sequence[str] | str): Paths of the layers, convolutions or linear ones. A batch norm
            that takes a layer's output goes into the branches.
        num_branches (int): Number m of branches, at least 2. Open in the slides. Defaults to 4.
        noise (float): Standard deviation of the noise on loaded weights, in that of the layer's
            weights. Open in the slides. Defaults to 0.1.

    Raises:
        DistillationError: If there are fewer than two branches.
    """

    def __init__(
        self,
        layers: Sequence[str] | str,
        num_branches: int = 4,
        noise: NonNegativeFloat = 0.1,
    ) -> None:
        if num_branches < 2:
            raise DistillationError(
                f'branches: num_branches={num_branches}, and fewer than two branches are no '
                'chain. Set 2 or more, or leave branches out.'
            )
        self.layers = [layers] if isinstance(layers, str) else list(layers)
        self.num_branches = num_branches
        self.noise = noise

    def apply(self, student: nn.Module) -> None:
        """Replaces the layers of a student, which keeps its names everywhere else.

        Args:
            student (nn.Module): A model of MMDetection, MMSegmentation or MMPretrain.

        Raises:
            DistillationError: If a layer cannot be folded afterwards; says why and what to change.
        """
        for path in self.layers:
            check_tap(student, path, 'branches')
            _check_layer(student, path)
        followers = follow(student, self.layers)
        for path in self.layers:
            norm_path = _norm_behind(student, path, followers)
            self._replace(student, path, norm_path)

    def _replace(self, student: nn.Module, path: str, norm_path: str | None) -> None:
        parent, _, child = path.rpartition('.')
        holder = student.get_submodule(parent)
        layer = student.get_submodule(path)
        norm, norm_name = None, ''
        if norm_path is not None:
            norm = student.get_submodule(norm_path)
            norm_name = norm_path.removeprefix(f'{parent}.' if parent else '')
            norm_parent, _, norm_child = norm_path.rpartition('.')
            setattr(student.get_submodule(norm_parent), norm_child, NormInBranches())
        branches = Branches(layer, norm, self.num_branches, norm_name)
        for branch in branches.branches:
            branch.layer.reset_parameters()
            if isinstance(holder, ConvModule):  # which initialises its convolution by itself
                kaiming_init(branch.layer)
        setattr(holder, child, branches.train(layer.training))
        share_out = partial(_share_out, child=child, norm_name=norm_name, noise=self.noise)
        # The public name for it is younger.
        holder._register_load_state_dict_pre_hook(share_out, with_module=True)


def _share_out(
    holder: nn.Module,
    state_dict: dict[str, Tensor],
    prefix: str,
    *args,
    child: str,
    norm_name: str,
    noise: float,
) -> None:
    """Load hook of the module that holds branches: a plain layer's tensors become theirs."""
    branches = getattr(holder, child)
    if not isinstance(branches, Branches) or f'{prefix}{child}.weight' not in state_dict:
        return
    parts = [('layer', f'{prefix}{child}.')]
    if norm_name:
        parts.append(('norm', f'{prefix}{norm_name}.'))
    for part, old in parts:
        for name in [x for x in state_dict if x.startswith(old)]:
            tensor = state_dict.pop(name)
            copies = [tensor] * len(branches.branches)
            if part == 'layer' and name == f'{old}weight':
                # Of its own generator: processes load for themselves, and must not differ.
                generator = torch.Generator().manual_seed(crc32(name.encode()))
                draws = torch.randn(
                    len(copies), *tensor.shape, dtype=tensor.dtype, generator=generator
                )
                draws = (draws - draws.mean(dim=0)).to(tensor.device) * tensor.std() * noise
                copies = [tensor + draw for draw in draws]
            for i, copy in enumerate(copies):
                new = f'{prefix}{child}.branches.{i}.{part}.{name.removeprefix(old)}'
                state_dict[new] = copy
    state_dict[f'{prefix}{child}.folds_into'] = branches.folds_into


def _check_layer(student: nn.Module, path: str) -> None:
    """The layer is linear, trained, and in one place."""
    layer = student.get_submodule(path)
    if type(layer) not in _LINEAR or is_parametrized(layer):
        inside = [f'{path}.{n}' for n, module in layer.named_modules() if type(module) in _LINEAR]
        hint = f' Layers of that kind in it: {", ".join(inside[:4])}.' if inside else ''
        raise DistillationError(
            f'branches: {path!r} is a {type(layer).__name__}, which branches cannot be folded '
            f'into: it must be a plain convolution or linear layer.{hint}'
        )
    if not layer.weight.requires_grad:
        raise DistillationError(
            f'branches: {path!r} is frozen, so its branches would not be trained. Choose a layer '
            'behind frozen_stages.'
        )
    weights = {id(parameter) for parameter in layer.parameters()}
    places = [
        name
        for name, module in student.named_modules(remove_duplicate=False)
        if any(id(p) in weights for p in module.parameters(recurse=False))
    ]
    if len(places) > 1:
        raise DistillationError(
            f'branches: the weights of {path!r} are shared by {", ".join(sorted(places))}, and '
            'folding one would not fold the others. Choose a layer with weights of its own.'
        )


def _norm_behind(
    student: nn.Module, path: str, followers: Mapping[str, tuple[int, list[str]]] | None
) -> str | None:
    """Path of the batch norm that takes the layer's output; None if none does."""
    if followers is None:
        raise DistillationError(
            f'branches: the student could not be run on a blank image to see what follows '
            f'{path!r}. Choose a layer of a part that runs without annotations.'
        )
    calls, behind = followers[path]
    if calls != 1:
        raise DistillationError(
            f'branches: {path!r} is called {calls} times in a forward pass, so that it is no '
            'single state of a chain. Choose a layer that is called once, for a detector one of '
            'its neck.'
        )
    norms = [x for x in behind if isinstance(student.get_submodule(x), _BatchNorm)]
    others = [x for x in behind if _is_norm(student.get_submodule(x)) and x not in norms]
    if others:
        raise DistillationError(
            f'branches: behind {path!r} stands {others[0]!r}, a '
            f'{type(student.get_submodule(others[0])).__name__} and not a batch norm, which '
            'branches could not be folded with. Choose a layer with a batch norm or none behind.'
        )
    if not norms:
        return None
    norm = student.get_submodule(norms[0])
    if len(behind) > 1:
        raise DistillationError(
            f'branches: the output of {path!r} goes to {", ".join(behind)}; with a batch norm '
            'among several it cannot be folded. Choose a layer whose output only the norm takes.'
        )
    if not norm.affine or not norm.track_running_stats:
        raise DistillationError(
            f'branches: the batch norm {norms[0]!r} behind {path!r} has no weights or no running '
            'statistics, so that branches could not be folded into it. Give it both, or choose '
            'another layer.'
        )
    parent = path.rpartition('.')[0]
    if parent and not norms[0].startswith(f'{parent}.'):
        raise DistillationError(
            f'branches: the batch norm behind {path!r} is {norms[0]!r}, of another module. '
            'Choose a layer that stands in one module with its norm.'
        )
    return norms[0]


def _is_norm(module: nn.Module) -> bool:
    return isinstance(module, (nn.GroupNorm, nn.LayerNorm, nn.modules.instancenorm._InstanceNorm))
