"""Looking at the features that a distiller's points compare, beside training."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..diffusion.noise_adapter import share_of_student
from ..errors import DistillationError
from ..taps import left_as_found, outputs, run_to_taps
from .distiller import Distiller
from .point import DistillationPoint
from .preprocessing import Pixels

Levels = list[Tensor]


def points_to_look_at(model: Distiller, name: str | None = None) -> dict[str, DistillationPoint]:
    """The points whose features an image alone gives: without regions of a RoI head, and chains.

    Args:
        model (Distiller): The distiller.
        name (str, optional): The one that is wanted. Defaults to None, for all.

    Raises:
        DistillationError: If there is none, or none of this name.
    """
    points = {
        key: point
        for key, point in model.distillation.items()
        if point.chain is None and point.options.regions is None
    }
    if not points or name not in (None, *points):
        wanted = 'no point' if name is None else f'no point {name!r}'
        raise DistillationError(
            f'{wanted} to look at; those without regions and chain are: '
            f'{", ".join(points) or "none"}.'
        )
    return points if name is None else {name: points[name]}


@torch.no_grad()
def tap_both(
    model: Distiller, points: dict[str, DistillationPoint], data: dict
) -> dict[str, tuple[Levels, Levels]]:
    """What both taps of points give for a batch: student in evaluation mode, and teacher.

    Args:
        model (Distiller): The distiller, on its device. The student's mode is left at evaluation.
        points (dict[str, DistillationPoint]): Points of :func:`points_to_look_at`.
        data (dict): A batch of a data loader.

    Returns:
        dict[str, tuple]: Per point the tensors of the student's tap and of the teacher's.
    """
    data = model.data_preprocessor(data, False)
    inputs, data_samples = data['inputs'], data['data_samples']
    teacher = model.run_teacher(inputs, data_samples, points=list(points))
    options = {name: point.options for name, point in points.items()}
    taps = [x.student_tap for x in options.values()]
    student = run_to_taps(model.student.eval(), taps, inputs, data_samples)
    return {
        name: (
            outputs(student[x.student_tap], x.student, 'student'),
            outputs(teacher[name], x.teacher, 'teacher'),
        )
        for name, x in options.items()
    }


@torch.no_grad()
def features_of(
    model: Distiller, points: dict[str, DistillationPoint], data: dict
) -> dict[str, dict[str, Levels]]:
    """Features of a batch by point and title, level by level. The model is left as it was found.

    The connector runs in training mode, as the loss sees it: on the batch's own statistics.

    Args:
        model (Distiller): The distiller, on its device.
        points (dict[str, DistillationPoint]): Points of :func:`points_to_look_at`.
        data (dict): A batch of a data loader.

    Returns:
        dict: Per point ``'student'``, ``'refined student'`` if there is a connector, and
        ``'teacher'``: tensors of shape (B, C, H, W) or (B, C), one per level.
    """
    found = {}
    with left_as_found(model):
        for name, taps in tap_both(model, points, data).items():
            point = points[name].train()
            refined, targets, _ = point.refine(*taps)
            found[name] = {'student': point.select(taps[0], 'student')}
            if point.connector is not None:
                found[name]['refined student'] = refined
            found[name]['teacher'] = targets
    return found


def images_of(model: Distiller, data: dict) -> list[np.ndarray]:
    """The RGB images, (H, W, 3) of 8 bits, of a batch that was not preprocessed yet."""
    # OpenMMLab reads files as BGR, whether or not the data preprocessor turns them round; what
    # was in memory as RGB, such as MMPretrain's CIFAR, is not turned and has no path.
    reverses = Pixels.of(model.student.data_preprocessor).reversed
    is_bgr = [reverses or 'img_path' in sample for sample in data['data_samples']]
    return [
        x.permute(1, 2, 0).clamp(0, 255).to(torch.uint8).cpu().numpy()[..., :: -1 if bgr else 1]
        for x, bgr in zip(data['inputs'], is_bgr)
    ]


@contextmanager
def record_noise_weights(point: DistillationPoint) -> Iterator[dict[str, list[Tensor]]]:
    """Records γ of the point's noise adapters while the context is open.

    Yields:
        dict: Per adapter, as ``'level 0'`` (``'all levels'`` where they share one), γ of shape
        (B,) of every call; empty for a connector without adapters.
    """
    adapters = [x for name, x in point.named_modules() if name.endswith('.noise_adapter')]
    names = [f'level {i}' for i in range(len(adapters))]
    if len(adapters) == 1 and getattr(point.connector, 'num_levels', 1) > 1:
        names = ['all levels']
    found: dict[str, list[Tensor]] = {name: [] for name in names}
    with ExitStack() as stack:
        for name, adapter in zip(names, adapters):

            def note(module: nn.Module, args: tuple, output: Any, name: str = name) -> None:
                is_whole = isinstance(output, tuple)
                found[name].append((output[1] if is_whole else share_of_student(output)).detach())

            # A hook on the whole adapter has the levels run one by one, which rounds otherwise.
            read = getattr(adapter, 'linear', adapter)
            stack.callback(read.register_forward_hook(note).remove)
        yield found
