"""Checkpoints of classifiers, as weights of MMPretrain's ``ImageClassifier``.

Known are

- the networks of the CRD benchmark for CIFAR-100 (Tian et al. 2020, arXiv:1910.10699), whose
  names the code of many distillation papers keeps: ResNet-20, -56, -8x4, ... with three stages,
  ResNet-50, wide ResNets, VGG, MobileNetV2 of half width, ShuffleNetV1 and -V2;
- ResNet and MobileNetV2 of torchvision, and timm's ResNets of the same names;
- MobileNetV1 as a ``Sequential`` with the name ``model`` (``model.0.0.weight``, ``fc.weight``), and
  timm's, which has ReLU6 in place of ReLU.

Weights do not tell how images are normalized: that stays with the config, as does everything
else without weights.
"""

from dataclasses import dataclass

import torch
from mmengine.registry import MODELS
from torch import Tensor, nn

from ..errors import DistillationError
from .crd_layouts import CRD_LAYOUTS
from .imagenet_layouts import IMAGENET_LAYOUTS
from .layout import Layout, Weights, check_names

# The first whose telltale is there.
LAYOUTS = [*IMAGENET_LAYOUTS, *CRD_LAYOUTS]


@dataclass
class ClassifierWeights:
    """A converted checkpoint of a classifier.

    Attributes:
        network (str): What the checkpoint is, such as ``'ResNet-56 of the CRD benchmark'``.
        backbone (dict): Config of the backbone that the weights fit.
        state_dict (dict[str, Tensor]): Weights of an ``ImageClassifier`` with this backbone,
            ``GlobalAveragePooling`` and ``LinearClsHead``, complete.
        num_classes (int): Classes of the network.
    """

    network: str
    backbone: dict
    state_dict: dict[str, Tensor]
    num_classes: int


def is_classifier(weights: Weights) -> bool:
    """Whether a state dict has the names of a classifier that can be converted."""
    return _find_layout(weights) is not None


def convert_classifier(weights: Weights, source: str) -> ClassifierWeights:
    """Converts a classifier, so that MMPretrain's network or ours computes the same.

    Args:
        weights (Mapping[str, Tensor]): State dict with the names of its origin.
        source (str): What messages call the checkpoint, usually its path.

    Returns:
        ClassifierWeights: Weights of an ``ImageClassifier``.

    Raises:
        DistillationError: If it is none of the known networks, or a name is missing or left over,
            or a tensor has another shape.
    """
    layout = _find_layout(weights)
    if layout is None:
        hint = ''
        if any(name.startswith('backbone.') for name in weights):
            hint = ' It has the names of OpenMMLab; has it been converted already?'
        families = ', '.join(f'{x.family} {x.origin}' for x in LAYOUTS)
        raise DistillationError(
            f'{source!r} has the names of no classifier that can be converted: {families}.{hint}'
        )
    try:
        network, config = layout.find_network(weights)
    except KeyError as error:
        raise DistillationError(
            f'{source!r}, a {layout.family} {layout.origin}, has no {error.args[0]}.'
        ) from error
    network = f'{network} {layout.origin}'
    if config is None:
        raise DistillationError(f'{source!r} is a {network}, for which there is no backbone.')
    state_dict = _rename(layout, MODELS.build(config), weights, f'{source!r}, a {network}')
    return ClassifierWeights(network, config, state_dict, len(state_dict['head.fc.bias']))


def _find_layout(weights: Weights) -> Layout | None:
    names = weights.keys()
    return next((x for x in LAYOUTS if {x.telltale, f'{x.classifier}.weight'} <= names), None)


def _rename(layout: Layout, backbone: nn.Module, weights: Weights, what: str) -> dict[str, Tensor]:
    """Takes the tensors of our network under their names in the checkpoint; none may be left."""
    wanted = {}
    for ours, tensor in backbone.state_dict().items():
        module, kind = ours.rsplit('.', 1)
        wanted[f'backbone.{ours}'] = f'{layout.rename(module, backbone)}.{kind}', tensor.shape
    for kind in ('weight', 'bias'):
        wanted[f'head.fc.{kind}'] = f'{layout.classifier}.{kind}', None
    state_dict, missing, left = {}, [], dict(weights)
    for ours, (name, shape) in wanted.items():
        if ours.endswith('.num_batches_tracked'):  # PyTorch before 0.4.1 did not count
            left.setdefault(name, torch.tensor(0))
        if name not in left:
            missing.append(name)
            continue
        state_dict[ours] = left.pop(name)
        if shape is not None and state_dict[ours].shape != shape:
            raise DistillationError(
                f'{what}: {name} has shape {tuple(state_dict[ours].shape)} instead of '
                f'{tuple(shape)}.'
            )
    check_names(what, missing, list(left))
    return state_dict
