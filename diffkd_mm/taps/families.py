"""All that is special to a package's models: where a new family of models is added.

``run_model`` knows how deep a model must be run for taps in its backbone, neck or heads,
``roi_forward`` how MMDetection's RoI heads run on given regions, ``outputs_queries`` which modules
output something per query.
"""

import inspect
from collections.abc import Callable, Sequence

from torch import Tensor, nn

from ..errors import DistillationError


def run_model(
    model: nn.Module, paths: Sequence[str], inputs: Tensor, data_samples: list | None
) -> tuple[Tensor, ...] | None:
    """Runs the model up to its taps; returns the neck's features if they were computed alone."""
    if runs_whole(model, paths):
        model(inputs, data_samples, mode='tensor')
        return None
    features = model.extract_feat(inputs)
    for head in dict.fromkeys(_heads_of(model, paths)):
        head(*(features, data_samples)[: len(_required_parameters(head.forward))])
    return features


def runs_whole(model: nn.Module, paths: Sequence[str]) -> bool:
    """Whether taps need the whole model, and not only the neck's features and dense heads."""
    # Without a backbone it is a wrapped foreign model (timm's), with parts of its own.
    return not hasattr(model, 'backbone') or not all(
        _is_dense_head(model, head) for head in _heads_of(model, paths)
    )


def _heads_of(model: nn.Module, paths: Sequence[str]) -> list[nn.Module]:
    return [head for path in paths if (head := _head_of(model, path)) is not None]


def predict(model: nn.Module, inputs: Tensor, data_samples: list | None) -> None:
    """Runs the whole model as for predicting, without touching the data samples.

    A segmentor's sliding window is left out: it would run the model on parts of the image.
    """
    samples = [type(sample)(metainfo=sample.metainfo) for sample in data_samples or ()]
    if hasattr(model, 'encode_decode'):
        model.encode_decode(inputs, [sample.metainfo for sample in samples])
    else:
        model(inputs, samples, mode='predict')


def _head_of(model: nn.Module, path: str) -> nn.Module | None:
    """The head that a tapped module belongs to; None for backbone and neck."""
    name, *rest = path.split('.')
    if name in ('backbone', 'neck'):
        return None
    head = getattr(model, name)
    # MMSegmentation keeps several heads of a kind in a list.
    return head[int(rest[0])] if isinstance(head, nn.ModuleList) and rest else head


def _is_dense_head(model: nn.Module, head: nn.Module) -> bool:
    """Whether the head's ``forward`` takes the features and, at most, the data samples."""
    if hasattr(model, 'forward_transformer'):  # DETR's heads take the decoder's output
        return False
    required = _required_parameters(head.forward)
    return len(required) == 1 or required[1:] == ['batch_data_samples']


def outputs_queries(model: nn.Module, path: str) -> bool:
    """Whether a module outputs a value per query: of DETRs, Sparse R-CNN and MaskFormers."""
    name, *_ = path.split('.')
    if hasattr(model, 'forward_transformer'):  # DETRs
        return name in ('decoder', 'bbox_head')
    if name == 'roi_head':  # Sparse R-CNN and its kin, of learned proposals
        return hasattr(model.roi_head, 'proposal_feature_channel')
    return hasattr(_head_of(model, path), 'num_queries') and 'pixel_decoder' not in path


def _required_parameters(function: Callable) -> list[str]:
    parameters = inspect.signature(function).parameters.values()
    return [
        p.name for p in parameters if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD
    ]


def roi_forward(model: nn.Module, path: str) -> tuple:
    """How MMDetection runs the part of a RoI head that a tap is in: method and, if any, stage.

    The method extracts the regions from the features and runs the box (or mask) head on them.

    Raises:
        DistillationError: If the tap is not in a RoI head, or its head needs more than regions.
    """
    name, part, *rest = [*path.split('.'), '']
    head = getattr(model, name)
    forward = '_mask_forward' if part.startswith('mask') else '_bbox_forward'
    needed = _required_parameters(getattr(head, forward)) if hasattr(head, forward) else None
    # Heads with these take further features where there are some (HTC, SCNet).
    more = any(getattr(head, option, False) for option in ('with_semantic', 'with_glbctx'))
    if name == 'roi_head' and not more and needed == ['stage', 'x', 'rois']:
        return forward, int(rest[0]) if rest[0].isdigit() else 0
    if name == 'roi_head' and not more and needed in (['x'], ['x', 'rois']):
        return (forward,)
    raise DistillationError(
        f'the tap {path!r} of {type(model).__name__} cannot be run on given regions: that needs a '
        'RoI head whose boxes or masks follow from the features and the regions alone.'
    )
