"""What all connectors share: the levels they were built for, and saying so when they differ."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from torch import Tensor, nn

from ..errors import DistillationError

Losses = dict[str, Tensor]


class Connector(nn.Module, ABC):
    """Turns the tensors of a student tap and a teacher tap into pairs to be compared.

    Args:
        student_channels (int): Channels of every student level.
        teacher_channels (int): Channels of every teacher level.
        num_levels (int, optional): Number of levels. Defaults to 1.
    """

    def __init__(
        self, student_channels: int, teacher_channels: int, num_levels: int | None = None
    ) -> None:
        super().__init__()
        self.student_channels = student_channels
        self.teacher_channels = teacher_channels
        self.num_levels = num_levels or 1

    @abstractmethod
    def forward(
        self, students: Sequence[Tensor], teachers: Sequence[Tensor]
    ) -> tuple[list[Tensor], list[Tensor], Losses]:
        """Returns refined student tensors, targets, and losses of the connector's own."""

    def teacher_losses(self, teachers: Sequence[Tensor]) -> Losses:
        """Losses of the connector that need the teacher alone; none by default."""
        return {}

    def target_scale(self) -> Tensor | None:
        """Factor per channel from the first level's target to the teacher's units; None: 1."""
        return None

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
                expected = getattr(self, f'{side}_channels')
                if tensor.size(1) != expected:
                    raise DistillationError(
                        f'level {i} of the {side} has {tensor.size(1)} channels, but the '
                        f'connector has {side}_channels={expected}. '
                        f'Set {side}_channels={tensor.size(1)}.'
                    )
