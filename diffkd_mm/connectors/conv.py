"""The FitNet connector."""

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from ..diffusion import Standardization
from ..options import PositiveInt
from ..registry import MODELS
from .base import Channels, Connector, Losses


@MODELS.register_module()
class ConvConnector(Connector):
    """Projects the student with a 1×1 conv per level and leaves the teacher as it is.

    FitNet's regressor (Romero et al. 2015, Sec. 2.2), with :class:`MSELoss` the plain feature
    distillation that DiffKD is compared with.

    Args:
        student_channels (int | Sequence[int], optional): Channels C_s of every student level, or
            a list of each level's. None: found by the distiller.
        teacher_channels (int | Sequence[int], optional): Channels C_t of the teacher's levels,
            the same.
        num_levels (int, optional): Number of levels. None: found by the distiller.
        standardize (str, optional): As in :class:`DiffKDConnector`. Defaults to None.
    """

    def __init__(
        self,
        student_channels: Channels | None = None,
        teacher_channels: Channels | None = None,
        num_levels: PositiveInt | None = None,
        standardize: Literal['channel', 'scale'] | None = None,
    ) -> None:
        super().__init__(student_channels, teacher_channels, num_levels)
        self.convs = nn.ModuleList(
            nn.Conv2d(student, teacher, 1)
            for student, teacher in zip(self.student_channels, self.teacher_channels)
        )
        self.standardizations = nn.ModuleList(
            Standardization(channels, standardize) if standardize else nn.Identity()
            for channels in self.teacher_channels
        )

    def target_scales(self) -> list[Tensor | None]:
        return [getattr(x, 'deviation', None) for x in self.standardizations]

    def forward(
        self, students: Sequence[Tensor], teachers: Sequence[Tensor]
    ) -> tuple[list[Tensor], list[Tensor], Losses]:
        """Projects maps (B, C_s, H, W) to (B, C_t, H, W), vectors (B, C_s) to (B, C_t).

        Raises:
            DistillationError: If the levels differ from what the connector was built for.
        """
        self.check_levels(students, teachers)
        refined = [
            conv(x) if x.dim() == 4 else conv(x[:, :, None, None]).flatten(1)
            for conv, x in zip(self.convs, students)
        ]
        targets = [standardize(x) for standardize, x in zip(self.standardizations, teachers)]
        return refined, targets, {}
