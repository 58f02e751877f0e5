"""What all connectors share: the levels they were built for, and saying so when they differ."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from torch import Tensor, nn

from ..errors import DistillationError
from ..options import PositiveInt

Losses = dict[str, Tensor]
Channels = PositiveInt | Sequence[PositiveInt]


class Connector(nn.Module, ABC):
    """Turns the tensors of a student tap and a teacher tap into pairs to be compared.

    Args:
        student_channels (int | Sequence[int], optional): Channels of every student level, or a
            list of each level's. None: found by the distiller, which runs the student once on
            blank images.
        teacher_channels (int | Sequence[int], optional): The same of the teacher's levels.
        num_levels (int, optional): Number of levels. None: found by the distiller, or 1.

    Raises:
        DistillationError: If a number of channels is left open, or a list is not of all levels.
    """

    def __init__(
        self,
        student_channels: Channels | None = None,
        teacher_channels: Channels | None = None,
        num_levels: PositiveInt | None = None,
    ) -> None:
        super().__init__()
        self.num_levels = num_levels or 1
        self.student_channels = self._per_level('student_channels', student_channels)
        self.teacher_channels = self._per_level('teacher_channels', teacher_channels)

    def _per_level(self, name: str, channels: Channels | None) -> list[int]:
        if channels is None:
            raise DistillationError(
                f'{type(self).__name__} needs {name}; only a distiller finds it by itself.'
            )
        if isinstance(channels, int):
            return [channels] * self.num_levels
        if len(channels) != self.num_levels:
            raise DistillationError(
                f'{name}={list(channels)} has {len(channels)} numbers for {self.num_levels} levels.'
            )
        return list(channels)

    @abstractmethod
    def forward(
        self, students: Sequence[Tensor], teachers: Sequence[Tensor]
    ) -> tuple[list[Tensor], list[Tensor], Losses]:
        """Returns refined student tensors, targets, and losses of the connector's own."""

    def teacher_losses(self, teachers: Sequence[Tensor]) -> Losses:
        """Losses of the connector that need the teacher alone; none by default."""
        return {}

    def target_scales(self) -> list[Tensor | None]:
        """Factors per channel from a level's target to the teacher's units; None: 1."""
        return [None] * self.num_levels

    def check_levels(self, students: Sequence[Tensor], teachers: Sequence[Tensor]) -> None:
        """Compares number, channels and sizes of the levels with what the connector expects.

        Raises:
            DistillationError: Names the level, what was found and what to change.
        """
        if len(students) != self.num_levels:
            raise DistillationError(
                f'the connector has num_levels={self.num_levels}, but the taps give '
                f'{len(students)} levels. Set num_levels={len(students)} or choose levels with '
                'student_levels and teacher_levels.'
            )
        for i, (student, teacher) in enumerate(zip(students, teachers)):
            for side, tensor in (('student', student), ('teacher', teacher)):
                if tensor.dim() not in (2, 4):
                    raise DistillationError(
                        f'level {i} of the {side} has shape {tuple(tensor.shape)}; a connector '
                        'takes maps (B, C, H, W) or vectors (B, C).'
                    )
                expected = getattr(self, f'{side}_channels')[i]
                if tensor.size(1) != expected:
                    raise DistillationError(
                        f'level {i} of the {side} has {tensor.size(1)} channels, but the '
                        f'connector has {side}_channels={expected}. '
                        f'Set {side}_channels={tensor.size(1)}, or leave it out.'
                    )
