"""Parameters and multiply-adds of the parts of a config."""

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple
from unittest.mock import patch

import torch
import torch.nn.functional as F
from mmengine.config import Config
from torch import Tensor, nn
from torch.utils.flop_counter import conv_flop_count

from diffkd_mm.compat import flop_counter, plain_attention
from diffkd_mm.distillers import Distiller
from diffkd_mm.distillers.point import DistillationPoint
from diffkd_mm.errors import DistillationError
from diffkd_mm.taps import Tap, blank_image, run_to_taps

from .models import build_with_random_weights

CONNECTOR_PARTS = (
    'student_projection',
    'autoencoder.encoder',
    'autoencoder.decoder',
    'noise_adapter',
    'denoiser',
    'output_projection',
)
# Height and width of the input by the config's default scope.
SHAPES = dict(mmdet=(800, 1216), mmseg=(1024, 2048), mmpretrain=(224, 224))


class Count(NamedTuple):
    """What a part of a config costs for one image.

    Attributes:
        params (int): Number of parameters.
        macs (int, optional): Multiply-adds; None if they depend on the regions of a step.
        undilated_macs (int, optional): The same as the paper counts them.
        runs (int): How often a step runs the part.
    """

    params: int
    macs: int | None
    undilated_macs: int | None
    runs: int = 1


def _undilated_conv_flops(
    x_shape, w_shape, bias, stride, padding, dilation, transposed, *args, out_shape, **kwargs
) -> int:
    """FLOPs of a convolution whose output is as large as if it were not dilated."""
    if not transposed:
        sizes = zip(x_shape[2:], padding, w_shape[2:], stride)
        out_shape = [*out_shape[:2], *((x + 2 * p - k) // s + 1 for x, p, k, s in sizes)]
    return conv_flop_count(x_shape, w_shape, out_shape, transposed)


@contextmanager
def _countable() -> Iterator[None]:
    """Replaces what the counter does not see by what it sees, with as many multiply-adds."""
    from mmcv.ops import deform_conv, modulated_deform_conv

    def plain(x: Tensor, offset: Tensor, weight: Tensor, stride, padding, dilation, groups, *_):
        return F.conv2d(x, weight, None, stride, padding, dilation, groups)

    def plain_modulated(x: Tensor, offset: Tensor, mask: Tensor, weight: Tensor, bias, *options):
        return F.conv2d(x, weight, bias, *options[:4])

    with (
        plain_attention(),
        patch.object(deform_conv, 'deform_conv2d', plain),
        patch.object(modulated_deform_conv, 'modulated_deform_conv2d', plain_modulated),
    ):
        yield


class MacCounter:
    """Counts the multiply-adds of what runs in its context, in both ways, without gradients.

    Args:
        *modules (nn.Module): Those that run, whose parts are counted as well.
    """

    def __init__(self, *modules: nn.Module) -> None:
        undilated = {torch.ops.aten.convolution: _undilated_conv_flops}
        self._plain = flop_counter(modules)
        self._undilated = flop_counter(modules, custom_mapping=undilated)

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Starts counting from zero."""
        with torch.no_grad(), _countable(), self._plain, self._undilated:
            yield

    def macs(self, module: str = '') -> tuple[int, int]:
        """Multiply-adds and the paper's count, of all or of the modules whose path ends so."""
        return tuple(
            sum(
                sum(flops.values()) // 2
                for path, flops in counter.get_flop_counts().items()
                if (path.endswith('.' + module) if module else path == 'Global')
            )
            for counter in (self._plain, self._undilated)
        )


def num_params(module: nn.Module) -> int:
    """Number of parameters of a module."""
    return sum(x.numel() for x in module.parameters())


def count_model(model: nn.Module, shape: tuple[int, int]) -> Count:
    """Counts a whole model.

    Args:
        model (nn.Module): A model of MMDetection, MMSegmentation or MMPretrain in eval mode.
        shape (tuple[int, int]): Height and width of its input in pixels.

    Returns:
        Count: Of all its parts, auxiliary heads included.
    """
    image, samples = blank_image(model, shape)
    extract_feat, features = model.extract_feat, []

    def keep(*args, **kwargs):
        features.append(extract_feat(*args, **kwargs))
        return features[-1]

    heads = []
    if getattr(model, 'with_auxiliary_head', False):  # MMSegmentation's, which only training runs
        heads = model.auxiliary_head
        heads = heads if isinstance(heads, nn.ModuleList) else [heads]
    counter = MacCounter(model)
    with counter(), patch.object(model, 'extract_feat', keep):
        model(image, samples, mode='tensor')
        for head in heads:
            head(features[0])
    return Count(num_params(model), *counter.macs())


def count_connector(
    point: DistillationPoint, students: Sequence[Tensor], teachers: Sequence[Tensor]
) -> dict[str, Count]:
    """Counts the connector of a point and the parts that a DiffKD connector consists of.

    Args:
        point (DistillationPoint): A point with a connector, in eval mode.
        students (Sequence[Tensor]): The tensors of the student tap for one image.
        teachers (Sequence[Tensor]): The tensors of the teacher tap.

    Returns:
        dict[str, Count]: By ``name``, and ``name.part`` for those of :data:`CONNECTOR_PARTS` that
        the connector has, over all its levels.
    """
    parts = {
        part: [m for path, m in point.named_modules() if path.endswith('.' + part)]
        for part in CONNECTOR_PARTS
    }
    runs = []
    hooks = [m.register_forward_hook(lambda *args: runs.append(1)) for m in parts['denoiser']]
    counter = MacCounter(point)
    with counter():
        point.refine(students, teachers)
    for hook in hooks:
        hook.remove()

    counts = {point.options.name: Count(num_params(point.connector), *counter.macs())}
    for part, modules in parts.items():
        if modules:
            times = len(runs) if part == 'denoiser' else 1
            params = sum(map(num_params, modules))
            counts[f'{point.options.name}.{part}'] = Count(params, *counter.macs(part), runs=times)
    return counts


@torch.no_grad()
def count_distillation(distiller: Distiller, shape: tuple[int, int]) -> dict[str, Count]:
    """Counts the connectors of a distiller that has its teachers, see :func:`count_connector`."""
    points = {n: p for n, p in distiller.distillation.items() if p.connector is not None}
    image, samples = blank_image(distiller.student, shape)
    chosen = {n: p.options for n, p in points.items() if p.options.regions is None}
    # Of a layer in branches all branches, each of which a step sends through the connector.
    taps = {name: Tap(options.recorded) for name, options in chosen.items()}
    with _countable():
        students = run_to_taps(distiller.student, list(taps.values()), image, samples)
        teachers = distiller.run_teacher(image, samples, points=list(chosen))
    counts = {}
    for name, point in points.items():
        if name in chosen:
            tensors = students[taps[name]], teachers[name]
            counts |= count_connector(point, *([x for x, _ in side] for side in tensors))
        else:
            counts[name] = Count(num_params(point.connector), None, None)
    return counts


def count_config(cfg: Config, shape: tuple[int, int]) -> dict[str, Count]:
    """Counts the parts of a config, each without computing more than shapes if possible.

    Args:
        cfg (Config): The config; its default scope is the current one.
        shape (tuple[int, int]): Height and width of the input in pixels.

    Returns:
        dict[str, Count]: ``student``, ``teacher`` (of several ``teacher.<name>``) and the points of
        a distillation; of a plain config ``model``.

    Raises:
        DistillationError: If a model cannot be run on an image alone.
    """
    torch.manual_seed(0)  # proposals depend on the weights
    on_meta = build_with_random_weights(cfg).eval().to('meta')
    on_cpu = functools.cache(lambda: build_with_random_weights(cfg).eval())
    parts: list[Callable] = [lambda x: dict(model=count_model(x, shape))]
    if isinstance(on_meta, Distiller):
        parts = [lambda x: dict(student=count_model(x.student, shape))]
        for name, teacher in on_meta.teachers.items():
            parts.append(
                lambda x, name=name, label=teacher.label: {
                    label: count_model(x.teachers[name].model, x.teachers[name].image_size(shape))
                }
            )
        if on_meta.teachers:
            parts.append(lambda x: count_distillation(x, shape))
    counts = {}
    for part in parts:
        try:
            try:
                counts |= part(on_meta)
            except Exception:  # sizes that depend on values, operators without a kernel for shapes
                counts |= part(on_cpu())
        except Exception as error:
            raise DistillationError(
                f'cannot count {cfg.filename}: a model does not run on an image of {shape[0]}x'
                f'{shape[1]} alone. Give a larger --shape if that is too small; models that need '
                f'annotations or text cannot be counted. ({type(error).__name__}: {error})'
            ) from error
    return counts
