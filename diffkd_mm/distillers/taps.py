"""Taps: recording what modules of a model output, and running a model as deep as they need."""

import difflib
import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from ..errors import DistillationError

# A tap's record: the tensors in the order in which they came out. Each comes with the version
# counter it had, by which a later in-place change is noticed.
_Record = list[tuple[Tensor, int]]

# What is tapped when a model is run for its taps: a module's path and, for RoI heads, the path of
# the student's RoI extractor whose regions the head is run on.
Tap = tuple[str, str | None]

# Height and width, in pixels. At the second a window of a Swin transformer fits into stride 32.
PROBE_SIZES = (128, 256)


def check_tap(model: nn.Module, path: str, where: str) -> None:
    """Checks that a path names a module.

    Args:
        model (nn.Module): Student or teacher.
        path (str): Dotted path of a module.
        where (str): What to call the place in the message.

    Raises:
        DistillationError: Names the path and the nearest existing ones.
    """
    paths = [name for name, _ in model.named_modules() if name]
    if path not in paths:
        near = difflib.get_close_matches(path, paths, n=3, cutoff=0.4)
        hint = f' Nearest paths: {", ".join(near)}.' if near else ''
        raise DistillationError(
            f'{where}: {type(model).__name__} has no module {path!r}.{hint} '
            f'Top level: {", ".join(name for name, _ in model.named_children())}.'
        )


def _tensors(output: Any, path: str) -> Iterator[Tensor]:
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, (tuple, list)):
        for item in output:
            yield from _tensors(item, path)
    else:
        raise DistillationError(
            f'tap {path!r} outputs a {type(output).__name__}; a tap must output a tensor or a '
            'tuple or list of tensors.'
        )


@contextmanager
def record_regions(model: nn.Module, paths: Sequence[str]) -> Iterator[dict[str, list[Tensor]]]:
    """Records the regions that RoI extractors are called with while the context is open.

    Args:
        model (nn.Module): The model.
        paths (Sequence[str]): Paths of its RoI extractors.

    Yields:
        dict: Per path the regions of all calls in order, tensors of shape (n, 5).

    Raises:
        DistillationError: If a module is called with anything else than features and regions.
    """
    regions: dict[str, list[Tensor]] = {path: [] for path in paths}
    with ExitStack() as stack:
        for path in regions:

            def hook(module: nn.Module, args: tuple, kwargs: dict, path: str = path) -> None:
                if not torch.is_grad_enabled():
                    return  # the student chooses its samples (OHEM); this is not their run
                rois = args[1] if len(args) > 1 else kwargs.get('rois')
                if not isinstance(rois, Tensor) or rois.dim() != 2 or rois.size(1) != 5:
                    raise DistillationError(
                        f'regions={path!r} is a {type(module).__name__} and not a RoI extractor, '
                        'which is called with features and regions (n, 5).'
                    )
                # Some heads extract the same regions twice, at different scales.
                if not regions[path] or regions[path][-1] is not rois:
                    regions[path].append(rois)

            handle = model.get_submodule(path).register_forward_pre_hook(hook, with_kwargs=True)
            stack.callback(handle.remove)
        yield regions


@contextmanager
def record(model: nn.Module, paths: Sequence[str]) -> Iterator[dict[str, _Record]]:
    """Records the outputs of modules while the context is open.

    Hooks live no longer than the context: nothing to copy, to serialise or to switch off, and no
    tensor is held once the record is dropped.

    Args:
        model (nn.Module): The model.
        paths (Sequence[str]): Paths of the modules.

    Yields:
        dict: Per path the tensors of all calls in order; tuples and lists are flattened. Calls
        under ``no_grad`` are left out unless everything is.
    """
    with_grad = torch.is_grad_enabled()
    records: dict[str, _Record] = {path: [] for path in paths}
    with ExitStack() as stack:
        for path in records:

            def hook(module: nn.Module, args: tuple, output: Any, path: str = path) -> None:
                if torch.is_grad_enabled() == with_grad:
                    records[path].extend((t, t._version) for t in _tensors(output, path))

            handle = model.get_submodule(path).register_forward_hook(hook)
            stack.callback(handle.remove)
        yield records


def not_called(side: str, path: str) -> DistillationError:
    """The error for a tap on a module that the forward pass does not call."""
    return DistillationError(
        f'the {side} tap {path!r} exists but was not called in the forward pass; tap a module '
        'that is called (lists of modules are not, and some heads only through a method).'
    )


def outputs(recorded: _Record, path: str, side: str) -> list[Tensor]:
    """The tensors in a tap's record.

    Raises:
        DistillationError: If the module was not called, or its output was overwritten since.
    """
    if not recorded:
        raise not_called(side, path)
    for tensor, version in recorded:
        if tensor._version != version:
            raise DistillationError(
                f'the output of the {side} tap {path!r} was overwritten in place after it was '
                'recorded; tap the module that overwrites it instead.'
            )
    return [tensor for tensor, _ in recorded]


def run_to_taps(
    model: nn.Module,
    taps: Sequence[Tap],
    inputs: Tensor,
    data_samples: list | None = None,
    regions: dict[str, list[Tensor]] | None = None,
) -> dict[Tap, _Record]:
    """Runs a model as deep as the taps need, without losses or post-processing, and records them.

    Taps in backbone and neck need ``extract_feat`` alone; a tapped dense head is run on its
    features, a tapped RoI head on its features in the given regions. Anything else falls back to
    the model's ``mode='tensor'``.

    Args:
        model (nn.Module): A model of MMDetection, MMSegmentation or MMPretrain.
        taps (Sequence[Tap]): The tapped modules' paths, each with the path of an extractor in
            ``regions`` or None.
        inputs (Tensor): Preprocessed images of shape (B, 3, H, W).
        data_samples (list, optional): Data samples of the images.
        regions (dict, optional): By an extractor's path the regions of its calls, each a tensor of
            shape (n, 5) of batch index and corners x1, y1, x2, y2 in pixels.

    Returns:
        dict: Per tap the tensors of all calls in order, see :func:`record`.

    Raises:
        DistillationError: If a tap on regions is not in a RoI head, or there are no regions.
    """
    elsewhere = [path for path, extractor in taps if extractor is None]
    with record(model, elsewhere) as found:
        features = _run(model, elsewhere, inputs, data_samples)
    records = {(path, None): tensors for path, tensors in found.items()}
    # Taps of one head on one set of regions share a run.
    runs: dict[tuple, list[str]] = {}
    for path, extractor in taps:
        if extractor is not None:
            runs.setdefault((extractor, *_roi_forward(model, path)), []).append(path)
    if runs and features is None:
        features = model.extract_feat(inputs)
    for (extractor, forward, *stage), paths in runs.items():
        if not regions[extractor]:
            raise DistillationError(
                f'regions={extractor!r} exists but was not called by the student; of a cascade, '
                f"name the extractor of a stage, such as '{extractor}.0'."
            )
        with record(model, paths) as found:
            for rois in regions[extractor]:
                getattr(model.roi_head, forward)(*stage, features, rois)
        records.update({(path, extractor): tensors for path, tensors in found.items()})
    return records


def _run(
    model: nn.Module, paths: Sequence[str], inputs: Tensor, data_samples: list | None
) -> tuple[Tensor, ...] | None:
    """Runs the model up to its taps; returns the neck's features if they were computed alone."""
    heads = [head for path in paths if (head := _head_of(model, path)) is not None]
    # Without a backbone it is a wrapped foreign model (timm's), with parts of its own.
    if not hasattr(model, 'backbone') or not all(_is_dense_head(model, head) for head in heads):
        model(inputs, data_samples, mode='tensor')
        return None
    features = model.extract_feat(inputs)
    for head in dict.fromkeys(heads):
        head(*(features, data_samples)[: len(_required_parameters(head.forward))])
    return features


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


def _required_parameters(function: Callable) -> list[str]:
    parameters = inspect.signature(function).parameters.values()
    return [
        p.name for p in parameters if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD
    ]


def _roi_forward(model: nn.Module, path: str) -> tuple:
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


def blank_image(model: nn.Module, shape: tuple[int, int]) -> tuple[Tensor, list[BaseDataElement]]:
    """A preprocessed image of zeros, (1, 3, *shape), on the model's device, and its data sample."""
    sizes = dict.fromkeys(('img_shape', 'ori_shape', 'pad_shape', 'batch_input_shape'), shape)
    sample = BaseDataElement(metainfo=dict(sizes, scale_factor=(1.0, 1.0)))
    return torch.zeros(1, 3, *shape, device=next(model.parameters()).device), [sample]


def probe(
    *runs: tuple[nn.Module, Sequence[Tap]],
) -> tuple[list[dict[Tap, list[Tensor]]] | None, int]:
    """Runs models once on a blank square image and reports the shapes at their taps.

    Args:
        *runs (tuple): Each a model, whose training mode is left as found, and its taps, see
            :func:`run_to_taps`; on regions there are two, in one call.

    Returns:
        tuple: Per model the tensors of each tap for a single image, without their data (device
        ``meta``), or None if a model cannot be run without annotations; and the image's height and
        width in pixels, the first of :data:`PROBE_SIZES` that all models run on.
    """
    for size in PROBE_SIZES:
        shapes = [_probe(model, taps, size) for model, taps in runs]
        if None not in shapes:
            return shapes, size
    return None, size


@torch.no_grad()
def _probe(model: nn.Module, taps: Sequence[Tap], size: int) -> dict[Tap, list[Tensor]] | None:
    modes = [(module, module.training) for module in model.modules()]
    image, samples = blank_image(model, (size, size))
    rois = image.new_tensor([[0, 0, 0, 64, 64], [0, 32, 32, 127, 127]])
    try:
        regions = {extractor: [rois] for _, extractor in taps}
        records = run_to_taps(model.eval(), taps, image, samples, regions)
    except DistillationError:
        raise
    except Exception:
        return None
    finally:
        for module, training in modes:
            module.training = training
    return {tap: [x.to('meta') for x, _ in tensors] for tap, tensors in records.items()}
