"""Checkpoints that others publish, as weights of OpenMMLab's networks and ours."""

from collections.abc import Mapping

from mmengine.logging import print_log
from torch import Tensor

from .cirkd import CirkdWeights, convert_cirkd, is_cirkd
from .classifiers import ClassifierWeights, convert_classifier, is_classifier

__all__ = [
    'CirkdWeights',
    'ClassifierWeights',
    'convert_cirkd',
    'convert_classifier',
    'convert_published',
    'is_cirkd',
    'is_classifier',
]


def convert_published(weights: Mapping[str, Tensor], source: str) -> Mapping[str, Tensor]:
    """Gives a checkpoint of known origin the names of OpenMMLab's models.

    Args:
        weights (Mapping[str, Tensor]): State dict of a whole model.
        source (str): What messages call the checkpoint, usually its path.

    Returns:
        Mapping[str, Tensor]: The converted state dict, or ``weights`` as they are if their names
            are none of those that can be converted, as are OpenMMLab's own.

    Raises:
        DistillationError: If the names are known, but not the network.
    """
    if is_cirkd(weights):
        converted = convert_cirkd(weights, source)
    elif is_classifier(weights):
        converted = convert_classifier(weights, source)
    else:
        return weights
    print_log(f'{source!r} is a {converted.network} and was converted.', logger='current')
    return converted.state_dict
