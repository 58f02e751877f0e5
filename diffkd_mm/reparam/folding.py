"""Folding: branches become the one layer that they are the mean of (KDiffusion, eq. 7)."""

from collections.abc import Iterable, Mapping
from copy import deepcopy

import torch
from torch import Tensor, nn

from ..errors import DistillationError
from .branches import Branches, NormInBranches, decode

_MARK = '.folds_into'
_EXPORT = 'tools/model_converters/export_student.py'


def is_unfolded(names: Iterable[str]) -> bool:
    """Whether the tensors' names are those of a model with branches."""
    return any(name.endswith(_MARK) for name in names)


def check_folded(names: Iterable[str], model: nn.Module, where: str) -> None:
    """Refuses weights with branches for a model that has none.

    Args:
        names (Iterable[str]): Names of the tensors that are to be loaded; those of a state dict.
        model (nn.Module): The model that is to load them.
        where (str): What to call the weights in the message.

    Raises:
        DistillationError: If the model lacks the branches.
    """
    marks = [name.removesuffix(_MARK) for name in names if name.endswith(_MARK)]
    own = [name for name, module in model.named_modules() if isinstance(module, Branches)]
    for layer in marks:
        plain = layer.removeprefix('module.')
        if not any(name == plain or name.endswith(f'.{plain}') for name in own):
            raise DistillationError(
                f'{where} holds a student whose layer {plain!r} is still in branches, and this '
                f'model has one layer there. Fold it first with {_EXPORT}, or use the config of '
                'its distillation.'
            )


def fold_state_dict(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Replaces the tensors of branches by those of the layers that compute their means.

    Branch i is γ_i·(W_i·x + b_i − μ_i)/s_i + β_i with s_i = √(var_i + ε). Behind a layer with a
    batch norm the mean's weights go into the layer, its bias into the norm, whose statistics
    become 0 and 1 − ε: names and shapes are those of the student's own config, and the output that
    of its evaluation. To train on, let the norm estimate its statistics anew.

    Args:
        state_dict (Mapping): Weights of a student or a distiller; others than branches are kept.

    Returns:
        dict[str, Tensor]: The folded weights, computed in float64, in the dtypes of the branches.
    """
    folded = dict(state_dict)
    for mark in [name for name in state_dict if name.endswith(_MARK)]:
        prefix = mark.removesuffix('folds_into')
        own = {n.removeprefix(prefix): folded.pop(n) for n in state_dict if n.startswith(prefix)}
        norm_name, eps = decode(own['folds_into'])
        branches: dict[str, dict[str, Tensor]] = {}
        for name, tensor in own.items():
            if name.startswith('branches.'):
                _, index, rest = name.split('.', 2)
                branches.setdefault(index, {})[rest] = tensor
        layer, norm = fold_branches(list(branches.values()), eps if norm_name else None)
        folded.update({prefix + name: x for name, x in layer.items()})
        holder = prefix.removesuffix('.').rpartition('.')[0]
        root = f'{holder}.{norm_name}.' if holder else f'{norm_name}.'
        folded.update({root + name: x for name, x in norm.items()})
    return folded


def fold_branches(
    branches: list[dict[str, Tensor]], eps: float | None
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The layer, and the batch norm behind it, that compute the mean of branches.

    Args:
        branches (list[dict]): Per branch ``layer.weight``, if the layer has one ``layer.bias``, and
            with a batch norm ``norm.weight``, ``norm.bias``, ``norm.running_mean``,
            ``norm.running_var``, ``norm.num_batches_tracked``.
        eps (float, optional): ε of the batch norms; None: there are none.

    Returns:
        tuple: Tensors of the layer and of its norm, by name.
    """
    weights, biases = [], []
    for branch in branches:
        weight = branch['layer.weight'].double()
        bias = branch.get('layer.bias', weight.new_zeros(len(weight))).double()
        if eps is not None:
            scale = (
                branch['norm.weight'].double() / (branch['norm.running_var'].double() + eps).sqrt()
            )
            weight = weight * scale.view(-1, *[1] * (weight.dim() - 1))
            bias = branch['norm.bias'].double() + scale * (
                bias - branch['norm.running_mean'].double()
            )
        weights.append(weight)
        biases.append(bias)
    like = branches[0]
    bias = torch.stack(biases).mean(0)
    layer = {'weight': torch.stack(weights).mean(0).to(like['layer.weight'].dtype)}
    if eps is None:
        if 'layer.bias' in like:
            layer['bias'] = bias.to(like['layer.bias'].dtype)
        return layer, {}
    if 'layer.bias' in like:
        layer['bias'] = torch.zeros_like(like['layer.bias'])
    norm = {
        'weight': torch.ones_like(like['norm.weight']),
        'bias': bias.to(like['norm.bias'].dtype),
        'running_mean': torch.zeros_like(like['norm.running_mean']),
        'running_var': torch.full_like(like['norm.running_var'], 1 - eps),
        'num_batches_tracked': like['norm.num_batches_tracked'].clone(),
    }
    return layer, norm


@torch.no_grad()
def fold(model: nn.Module) -> nn.Module:
    """A copy of a model in which every layer in branches is one layer again.

    Args:
        model (nn.Module): The model, for instance a distiller's ``student``.

    Returns:
        nn.Module: The copy, in evaluation mode.
    """
    weights = fold_state_dict(model.state_dict())
    model = deepcopy(model).eval()
    for name, module in list(model.named_modules()):
        if isinstance(module, Branches):
            branch = module.branches[0]
            parent, _, child = name.rpartition('.')
            holder = model.get_submodule(parent)
            setattr(holder, child, branch.layer)
            norm_name, _ = decode(module.folds_into)
            if norm_name:
                norm_parent, _, norm_child = norm_name.rpartition('.')
                norm_holder = holder.get_submodule(norm_parent)
                assert isinstance(getattr(norm_holder, norm_child), NormInBranches)
                setattr(norm_holder, norm_child, branch.norm)
    model.load_state_dict(weights)
    return model
