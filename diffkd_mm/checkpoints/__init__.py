"""Checkpoints that others publish, as weights of OpenMMLab's networks and ours."""

from collections.abc import Mapping

from mmengine.logging import print_log
from mmengine.registry import MODELS
from torch import Tensor, nn

from ..errors import DistillationError
from .cirkd import CirkdWeights, convert_cirkd, is_cirkd, refuse_cirkd
from .classifiers import ClassifierWeights, convert_classifier, is_classifier

__all__ = [
    'CirkdWeights',
    'ClassifierWeights',
    'convert_cirkd',
    'convert_classifier',
    'convert_published',
    'is_cirkd',
    'is_classifier',
    'refuse_cirkd',
]


def convert_published(
    weights: Mapping[str, Tensor], source: str, backbone: nn.Module | None = None
) -> Mapping[str, Tensor]:
    """Gives a checkpoint of known origin the names of OpenMMLab's models.

    Args:
        weights (Mapping[str, Tensor]): State dict of a whole model.
        source (str): What messages call the checkpoint, usually its path.
        backbone (nn.Module, optional): The backbone that is to have the weights. It is compared
            with that of the checkpoint in what no weight shows, its activations.

    Returns:
        Mapping[str, Tensor]: The converted state dict, or ``weights`` as they are if their names
            are none of those that can be converted, as are OpenMMLab's own.

    Raises:
        DistillationError: If the names are known, but not the network, or the backbone would
            compute another function.
    """
    if is_cirkd(weights):
        converted = convert_cirkd(weights, source)
    elif is_classifier(weights):
        converted = convert_classifier(weights, source)
        if backbone is not None:
            _compare_activations(converted, backbone, source)
    else:
        return weights
    print_log(f'{source!r} is a {converted.network} and was converted.', logger='current')
    return converted.state_dict


def _compare_activations(converted: ClassifierWeights, backbone: nn.Module, source: str) -> None:
    """Refuses ReLU in place of ReLU6, of which the weights know nothing."""
    theirs = MODELS.build(converted.backbone)
    if type(theirs) is not type(backbone) or _activations(theirs) == _activations(backbone):
        return
    options = ', '.join(f'{key}={value!r}' for key, value in converted.backbone.items())
    raise DistillationError(
        f'{source!r} is a {converted.network} and computes with '
        f'{"/".join(sorted(_activations(theirs)))}, the backbone of the config with '
        f'{"/".join(sorted(_activations(backbone)))}: the same weights would give other outputs. '
        f'The config needs backbone=dict({options}).'
    )


def _activations(module: nn.Module) -> set[str]:
    return {
        type(x).__name__
        for x in module.modules()
        if type(x).__module__ == 'torch.nn.modules.activation'
    }
