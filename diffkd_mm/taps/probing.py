"""Probing: the shapes at a model's taps, found with blank images."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from ..errors import DistillationError
from .recording import Record, Tap
from .running import run_to_taps

# Height and width, in pixels. At the second a window of a Swin transformer fits into stride 32.
# The others are what networks with fixed sizes are made for, unless they say themselves.
PROBE_SIZES = (128, 256, 224, 300, 512, 640)
# Two, so that a tensor's first dimension can be seen to be the batch, and batch norms can train.
BATCH_SIZE = 2
# What modules call the size of the images that they are made for.
_SIZE_ATTRIBUTES = ('img_size', 'input_size', 'image_size')


class ProbeError(DistillationError):
    """A model could not be run on a blank image; the message is the cause."""


class Probe(NamedTuple):
    """What was found.

    Args:
        shapes (list): Per model the tensors of each tap, without their data (device ``meta``); of
            a tap that was not called an empty list.
        size (tuple[int, int]): Height and width, in pixels, of the images.
    """

    shapes: list[dict[Tap, list[Tensor]]]
    size: tuple[int, int]


def image_channels(model: nn.Module) -> int:
    """The number of channels of a model's images.

    As many as its data preprocessor has means, or as its first convolution takes.
    """
    mean = getattr(getattr(model, 'data_preprocessor', None), 'mean', None)
    if isinstance(mean, Tensor) and mean.numel() > 1:
        return mean.numel()
    convs = (m.in_channels for m in model.modules() if isinstance(m, nn.Conv2d))
    channels = next(convs, 3)
    # The stems of YOLOX and TResNet fold 2×2 and 4×4 pixels into channels before it.
    return 3 if channels in (12, 48) else channels


def blank_image(
    model: nn.Module, shape: tuple[int, int], batch_size: int = 1
) -> tuple[Tensor, list[BaseDataElement]]:
    """Preprocessed images of zeros, ``(B, C, *shape)``, on the model's device, and data samples."""
    sizes = dict.fromkeys(('img_shape', 'ori_shape', 'pad_shape', 'batch_input_shape'), shape)
    samples = [
        BaseDataElement(metainfo=dict(sizes, scale_factor=(1.0, 1.0))) for _ in range(batch_size)
    ]
    device = next(model.parameters()).device
    return torch.zeros(batch_size, image_channels(model), *shape, device=device), samples


def named_sizes(model: nn.Module) -> list[tuple[int, int]]:
    """Sizes of images, height and width in pixels, that parts of a model say they are made for."""
    preprocessor = getattr(model, 'data_preprocessor', None)
    found = [getattr(preprocessor, 'size', None)]
    for module in model.modules():
        found += [getattr(module, name, None) for name in _SIZE_ATTRIBUTES]
    pairs = [(x, x) if isinstance(x, int) else x for x in found]
    return list(
        dict.fromkeys(
            tuple(x)
            for x in pairs
            if isinstance(x, (tuple, list)) and len(x) == 2 and all(type(n) is int for n in x)
        )
    )


def sizes_to_try(*models: nn.Module) -> list[tuple[int, int]]:
    """Heights and widths: 128 and 256 pixels, what the models name, the rest of PROBE_SIZES."""
    named = [size for model in models for size in named_sizes(model)]
    squares = [(size, size) for size in PROBE_SIZES]
    return list(dict.fromkeys([*squares[:2], *named, *squares[2:]]))


def probe(*runs: tuple) -> Probe:
    """Runs models once on blank images and reports the shapes at their taps.

    Args:
        *runs (tuple): Each a model, whose modes, buffers and generators are left as found, its
            taps, see :func:`run_to_taps`, and whether it is run in training mode, as a student is;
            where that fails, as with heads that need annotations then, in evaluation mode. A fourth
            item may be a function that gives the size of its images for that of the others.

    Returns:
        Probe: The shapes at the first size that all models run on: 128 and 256 pixels, those that
        the models name, and those of :data:`PROBE_SIZES`.

    Raises:
        ProbeError: If a model runs on none of them; with the cause at a size that the models
            name, or else at the first.
    """
    causes = {}
    for size in sizes_to_try(*(model for model, *_ in runs)):
        try:
            return Probe([_probe(*run[:3], _size_for(run, size)) for run in runs], size)
        except DistillationError:
            raise
        except Exception as error:
            causes[size] = error
    named = [size for model, *_ in runs for size in named_sizes(model)]
    error = causes[named[0] if named else next(iter(causes))]
    reason = (str(error).strip().splitlines() or [''])[0]
    raise ProbeError(f'{type(error).__name__}: {reason}') from error


def _size_for(run: tuple, size: tuple[int, int]) -> tuple[int, int]:
    return run[3](size) if len(run) > 3 else size


def _probe(
    model: nn.Module, taps: Sequence[Tap], training: bool, size: tuple[int, int]
) -> dict[Tap, list[Tensor]]:
    if training:
        try:
            found = _run(model, taps, True, size)
            if all(found.values()):
                return found
        except Exception:
            found = {}
        # In evaluation mode a module may be called that is not in training, and the reverse.
        return {tap: x or found.get(tap, []) for tap, x in _run(model, taps, False, size).items()}
    return _run(model, taps, False, size)


@torch.no_grad()
def _run(
    model: nn.Module, taps: Sequence[Tap], training: bool, size: tuple[int, int]
) -> dict[Tap, list[Tensor]]:
    images, samples = blank_image(model, size, BATCH_SIZE)
    rois = images.new_tensor([[0, 0, 0, 64, 64], [0, 32, 32, 127, 127], [1, 0, 0, 64, 64]])
    regions = {extractor: [rois] for _, extractor in taps}
    with left_as_found(model):
        records = run_to_taps(model.train(training), taps, images, samples, regions)
    return {tap: _shapes(record) for tap, record in records.items()}


def _shapes(record: Record) -> list[Tensor]:
    return [x.to('meta') for x, _ in record]


@contextmanager
def left_as_found(model: nn.Module) -> Iterator[None]:
    """Puts back modes, buffers (running statistics) and generators of random numbers."""
    modes = [(module, module.training) for module in model.modules()]
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    devices = {x.device for x in model.parameters() if x.is_cuda}
    try:
        with torch.random.fork_rng(devices):
            yield
    finally:
        for module, training in modes:
            module.training = training
        for buffer, before in buffers:
            buffer.copy_(before)
