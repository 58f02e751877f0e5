"""Which levels of a point's taps are compared, and with their channels first."""

import math
from collections.abc import Sequence

from torch import Tensor

from .point_checks import check_indices, check_stride, check_tokens, is_square
from .point_options import PointOptions


class LevelChoice:
    """Chooses the levels of both sides as a point's options say.

    Args:
        options (PointOptions): The point's options.

    Attributes:
        indices (dict): Per side, ``'student'`` and ``'teacher'``, the indices of the chosen levels,
            None for all. Those of strides are found when the models are looked at.
    """

    def __init__(self, options: PointOptions) -> None:
        self.options = options
        self.indices = dict(student=options.student_levels, teacher=options.teacher_levels)

    def match_strides(
        self, side: str, levels: Sequence[Tensor], image_size: tuple[int, int]
    ) -> None:
        """Finds the levels of one side that have the point's strides.

        Args:
            side (str): ``'student'`` or ``'teacher'``.
            levels (Sequence[Tensor]): All levels of the tap.
            image_size (tuple[int, int]): Height and width of the image in pixels.

        Raises:
            DistillationError: If there is no level of a stride, or more than one.
        """
        sizes = [tuple(level.shape[2:]) for level in self._channels_first(levels, side)]
        indices = []
        for stride in self.options.strides:
            size = tuple(-(-x // stride) for x in image_size)  # necks round up
            found = [i for i, s in enumerate(sizes) if s == size]
            check_stride(len(found), stride, sizes, max(image_size), self.options, side)
            indices += found
        self.indices[side] = indices

    def select(self, levels: Sequence[Tensor], side: str) -> list[Tensor]:
        """Chooses the levels of one side (``'student'`` or ``'teacher'``), channels first.

        Raises:
            DistillationError: If an index is out of range.
        """
        levels = self._channels_first(levels, side)
        indices = self.indices[side]
        if indices is None:
            return levels
        check_indices(levels, indices, self.options, side)
        return [levels[i] for i in indices]

    def _channels_first(self, levels: Sequence[Tensor], side: str) -> list[Tensor]:
        if self.options.channels_last not in (side, 'both'):
            return list(levels)
        dropped = self.options.dropped_tokens(side)
        if dropped:
            levels = [x[:, dropped:] if x.dim() == 3 else x for x in levels]
        check_tokens(levels, self.options, side)
        return [_as_map(x) for x in levels]


def _as_map(x: Tensor) -> Tensor:
    """(B, H, W, C) and tokens (B, N, C) as a map with its channels first."""
    if x.dim() == 3:
        side = math.isqrt(x.size(1))
        x = x.unflatten(1, (side, side) if is_square(x.size(1)) else (x.size(1), 1))
    return x.movedim(-1, 1)
