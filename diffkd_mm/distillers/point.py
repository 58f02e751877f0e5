"""Distillation points: what is compared with what, and how."""

import inspect
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmengine.dist import get_world_size
from torch import Tensor, nn

from ..options import build_part
from .guidance import guidance_loss
from .levels import LevelChoice
from .point_checks import check_batch, check_is_number, check_levels
from .point_options import PointOptions
from .schedule import Schedule


class DistillationPoint(nn.Module):
    """A student tap, a teacher tap, a connector, a chain if the tap has branches, and a loss.

    Args:
        options (PointOptions): What the config says of it, with nothing left open.
        choice (LevelChoice, optional): Which levels are compared. Defaults to what the options
            say; strides are then still to be matched.

    Raises:
        DistillationError: If connector or loss cannot be built.
    """

    def __init__(self, options: PointOptions, choice: LevelChoice | None = None) -> None:
        super().__init__()
        self.options = options
        self.choice = choice or LevelChoice(options)
        self.connector = None
        if options.connector is not None:
            self.connector = build_part(options.connector, f'point {options.name!r}, connector')
        self.chain = None
        if options.chain is not None:
            self.chain = build_part(options.chain, f'point {options.name!r}, chain')
        self.loss = build_part(options.loss, f'point {options.name!r}, loss')
        self.balance = None
        if options.balance is not None:
            balance = {'type': 'LossBalance', **options.balance}
            self.balance = build_part(balance, f'point {options.name!r}, balance')
        self.schedule = None
        if options.schedule is not None:
            where = f'point {options.name!r}, schedule'
            self.schedule = Schedule.from_options(options.schedule, where)
        self.losses = ['loss_kd']  # their names, as far as they are known
        wanted = inspect.signature(self.loss.forward).parameters
        self._loss_takes = [key for key in ('data_samples', 'level') if key in wanted]

    @property
    def levels(self) -> dict[str, Sequence[int] | None]:
        """Indices of the levels that are compared, by side; None for all."""
        return self.choice.indices

    def match_strides(
        self, side: str, levels: Sequence[Tensor], image_size: tuple[int, int]
    ) -> None:
        """See :meth:`LevelChoice.match_strides`."""
        self.choice.match_strides(side, levels, image_size)

    def select(self, levels: Sequence[Tensor], side: str) -> list[Tensor]:
        """See :meth:`LevelChoice.select`."""
        return self.choice.select(levels, side)

    def check(
        self,
        students: Sequence[Tensor],
        teachers: Sequence[Tensor],
        batch_size: int | None = None,
    ) -> None:
        """Checks the chosen levels, see :func:`check_levels`; the batch where its size is known."""
        if batch_size is not None:
            check_batch(students, self.options, 'student', batch_size)
            check_batch(teachers, self.options, 'teacher', batch_size)
        check_levels(students, teachers, self.options, self.connector, self.loss)

    def refine(
        self,
        students: Sequence[Tensor],
        teachers: Sequence[Tensor],
        batch_size: int | None = None,
        guide: nn.Module | None = None,
    ) -> tuple[list[Tensor], list[Tensor], dict[str, Tensor]]:
        """Refined student tensors, targets and the losses of connector and guidance.

        One of each tensor per level, or per step of a chain.
        """
        students, teachers = self.select(students, 'student'), self.select(teachers, 'teacher')
        if self.chain is None:
            self.check(students, teachers, batch_size)
            refined, targets, losses = self._connect(students, teachers)
            return refined, targets, losses | self._guide(guide, refined, targets)
        self.check(students[:1], teachers, batch_size)
        # The branches in one batch, so that a connector's statistics see the teacher once.
        refined, targets, losses = self._connect([torch.cat(students)], teachers)
        branches = refined[0].chunk(len(students))
        # The network passes on the mean of its branches: this is its x̂_0.
        losses |= self._guide(guide, [sum(branches) / len(branches)], targets)
        return *self.chain(branches, targets[0]), losses

    def _guide(
        self, guide: nn.Module | None, estimates: Sequence[Tensor], targets: Sequence[Tensor]
    ) -> dict[str, Tensor]:
        """``loss_guide`` through the teacher's next layer, if there is guidance."""
        if guide is None:
            return {}
        scales = [None] * len(targets)
        if self.connector is not None:
            scales = self.connector.target_scales()
        loss = guidance_loss(guide, estimates, targets, scales)
        return {'loss_guide': self.options.guidance_weight * loss}

    def _connect(
        self, students: list[Tensor], teachers: list[Tensor]
    ) -> tuple[list[Tensor], list[Tensor], dict[str, Tensor]]:
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
        guide: nn.Module | None = None,
    ) -> dict[str, Tensor]:
        """Compares the levels of both taps.

        Args:
            students (Sequence[Tensor]): The tensors of the student tap.
            teachers (Sequence[Tensor]): The tensors of the teacher tap.
            data_samples (list, optional): Data samples of the batch, for losses that ask for them.
            guide (nn.Module, optional): The teacher's layer at the option ``guidance``.

        Returns:
            dict[str, Tensor]: ``loss_kd``, summed over the levels or the steps of a chain, and
            what connector and guidance add.

        Raises:
            DistillationError: If the levels do not fit.
        """
        if any(x.numel() == 0 for x in students):  # no region was sampled: a mean over nothing
            return {'loss_kd': self._zero(students)}
        if self.options.regions is not None and self._has_one_value(students):
            return {'loss_kd': self._zero(students)}
        batch_size = None if data_samples is None else len(data_samples)
        refined, targets, losses = self.refine(students, teachers, batch_size, guide)
        loss_kd = 0
        for level, (x, y) in enumerate(zip(refined, targets)):
            available = dict(data_samples=data_samples, level=level)
            loss = self.loss(x, y, **{key: available[key] for key in self._loss_takes})
            check_is_number(loss, self.loss)
            loss_kd += loss
        return {'loss_kd': loss_kd, **losses}

    def weight(self) -> float:
        """The factor that the point's losses have at this iteration, by its schedule."""
        return 1.0 if self.schedule is None else self.schedule.now(self.options.name)

    def weigh(self, losses: dict[str, Tensor], weight: float) -> dict[str, Tensor]:
        """Multiplies what are losses by the schedule's factor, and adds that as ``weight``."""
        self.losses = [key for key in losses if 'loss' in key]
        if self.schedule is None:
            return losses
        losses = {k: weight * v if k in self.losses else v for k, v in losses.items()}
        return {**losses, 'weight': torch.full_like(losses['loss_kd'].detach(), weight)}

    def idle(self, like: Tensor) -> dict[str, Tensor]:
        """The losses of a step whose factor is 0, for which nothing runs.

        Args:
            like (Tensor): A tensor on the losses' device.
        """
        zero = torch.zeros((), device=like.device)
        if get_world_size() > 1:  # DDP waits for a gradient of every parameter
            zero = zero + self._zero(())
        return {**dict.fromkeys(self.losses, zero), 'weight': zero.detach()}

    def _has_one_value(self, students: Sequence[Tensor]) -> bool:
        """Whether batch norm would have a single value per channel, of which it makes nothing."""
        norms = [x for x in self.modules() if isinstance(x, nn.modules.batchnorm._BatchNorm)]
        return bool(norms) and any(x.numel() == x.size(1) for x in students)

    def _zero(self, students: Sequence[Tensor]) -> Tensor:
        """A loss of zero with a gradient of zero for everything that DDP expects one for."""
        return 0 * (sum(x.sum() for x in students) + sum(p.sum() for p in self.parameters()))
