"""Distillation points: what is compared with what, and how."""

import inspect
import math
from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from ..options import build_part
from .point_checks import (
    check_indices,
    check_is_number,
    check_levels,
    check_stride,
    check_tokens,
    is_square,
)
from .point_options import PointOptions


class DistillationPoint(nn.Module):
    """A student tap, a teacher tap, a connector between them and a loss.

    Args:
        options (PointOptions): What the config says of it.

    Raises:
        DistillationError: If connector or loss cannot be built.
    """

    def __init__(self, options: PointOptions) -> None:
        super().__init__()
        self.options = options
        # Those of strides are found when the models are looked at.
        self.levels = dict(student=options.student_levels, teacher=options.teacher_levels)
        self.connector = None
        if options.connector is not None:
            self.connector = build_part(options.connector, f'point {options.name!r}, connector')
        self.loss = build_part(options.loss, f'point {options.name!r}, loss')
        self.balance = None
        if options.balance is not None:
            balance = {'type': 'LossBalance', **options.balance}
            self.balance = build_part(balance, f'point {options.name!r}, balance')
        wanted = inspect.signature(self.loss.forward).parameters
        self._loss_takes = [key for key in ('data_samples', 'level') if key in wanted]

    def match_strides(self, side: str, levels: Sequence[Tensor], image_size: int) -> None:
        """Finds the levels of one side that have the point's strides.

        Args:
            side (str): ``'student'`` or ``'teacher'``.
            levels (Sequence[Tensor]): All levels of the tap for a square image.
            image_size (int): Height and width of the image in pixels.

        Raises:
            DistillationError: If there is no level of a stride, or more than one.
        """
        sizes = [tuple(level.shape[2:]) for level in self._channels_first(levels, side)]
        indices = []
        for stride in self.options.strides:
            size = -(-image_size // stride)  # necks round up
            found = [i for i, s in enumerate(sizes) if s == (size, size)]
            check_stride(len(found), stride, sizes, image_size, self.options, side)
            indices += found
        self.levels[side] = indices

    def select(self, levels: Sequence[Tensor], side: str) -> list[Tensor]:
        """Chooses the levels of one side (``'student'`` or ``'teacher'``), channels first.

        Raises:
            DistillationError: If an index is out of range.
        """
        levels = self._channels_first(levels, side)
        indices = self.levels[side]
        if indices is None:
            return levels
        check_indices(levels, indices, self.options, side)
        return [levels[i] for i in indices]

    def _channels_first(self, levels: Sequence[Tensor], side: str) -> list[Tensor]:
        if self.options.channels_last not in (side, 'both'):
            return list(levels)
        check_tokens(levels, self.options, side)
        return [_as_map(x) for x in levels]

    def check(self, students: Sequence[Tensor], teachers: Sequence[Tensor]) -> None:
        """Checks number, size and channels of the chosen levels, see :func:`check_levels`."""
        check_levels(students, teachers, self.options, self.connector, self.loss)

    def refine(
        self, students: Sequence[Tensor], teachers: Sequence[Tensor]
    ) -> tuple[list[Tensor], list[Tensor], dict[str, Tensor]]:
        """Refined student tensors, targets and the connector's losses, level by level."""
        students, teachers = self.select(students, 'student'), self.select(teachers, 'teacher')
        self.check(students, teachers)
        if self.options.resize:
            students = [
                x
                if x.shape[2:] == y.shape[2:]
                else F.interpolate(x, y.shape[2:], mode='bilinear', align_corners=False)
                for x, y in zip(students, teachers)
            ]
        if self.connector is None:
            return students, teachers, {}
        return self.connector(students, teachers)

    def forward(
        self,
        students: Sequence[Tensor],
        teachers: Sequence[Tensor],
        data_samples: list | None = None,
    ) -> dict[str, Tensor]:
        """Compares the levels of both taps.

        Args:
            students (Sequence[Tensor]): The tensors of the student tap.
            teachers (Sequence[Tensor]): The tensors of the teacher tap.
            data_samples (list, optional): Data samples of the batch, for losses that ask for them.

        Returns:
            dict[str, Tensor]: ``loss_kd``, summed over the levels, and what the connector adds.

        Raises:
            DistillationError: If the levels do not fit.
        """
        if any(x.numel() == 0 for x in students):  # no region was sampled: a mean over nothing
            return {'loss_kd': self._zero(students)}
        if self.options.regions is not None and self._has_one_value(students):
            return {'loss_kd': self._zero(students)}
        refined, targets, losses = self.refine(students, teachers)
        loss_kd = 0
        for level, (x, y) in enumerate(zip(refined, targets)):
            available = dict(data_samples=data_samples, level=level)
            loss = self.loss(x, y, **{key: available[key] for key in self._loss_takes})
            check_is_number(loss, self.loss)
            loss_kd += loss
        return {'loss_kd': loss_kd, **losses}

    def _has_one_value(self, students: Sequence[Tensor]) -> bool:
        """Whether batch norm would have a single value per channel, of which it makes nothing."""
        norms = [x for x in self.modules() if isinstance(x, nn.modules.batchnorm._BatchNorm)]
        return bool(norms) and any(x.numel() == x.size(1) for x in students)

    def _zero(self, students: Sequence[Tensor]) -> Tensor:
        """A loss of zero with a gradient of zero for everything that DDP expects one for."""
        return 0 * (sum(x.sum() for x in students) + sum(p.sum() for p in self.parameters()))


def _as_map(x: Tensor) -> Tensor:
    """(B, H, W, C) and tokens (B, N, C) as a map with its channels first."""
    if x.dim() == 3:
        side = math.isqrt(x.size(1))
        x = x.unflatten(1, (side, side) if is_square(x.size(1)) else (x.size(1), 1))
    return x.movedim(-1, 1)
