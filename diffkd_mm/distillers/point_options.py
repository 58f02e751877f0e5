"""What a config says of a distillation point, checked before anything is built."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from inspect import signature
from typing import Literal

from torch import nn

from ..errors import DistillationError
from ..options import PositiveInt, check_options, part_class
from ..taps import Tap


@dataclass(frozen=True)
class PointOptions:
    """The options of a distillation point.

    Args:
        name (str): The point's name, the prefix of its losses.
        student (str): Path of the tapped student module, e.g. ``'neck'``.
        teacher (str): Path of the tapped teacher module.
        loss (dict): Config of the distillation loss, called as ``loss(refined, target)`` per
            level. Losses of other packages are named with their scope (``mmdet.SmoothL1Loss``).
            A loss whose ``forward`` has parameters ``data_samples`` or ``level`` is given the
            batch's data samples and the level's index under these names. One with attributes
            ``student_channels`` and ``teacher_channels`` compares different numbers of channels
            without a connector.
        connector (dict, optional): Config of the connector. Defaults to None: the student's
            tensors are compared as they are.
        student_levels (Sequence[int], optional): Indices of the student levels. Defaults to all.
        teacher_levels (Sequence[int], optional): Indices of the teacher levels. Defaults to all.
        strides (Sequence[int], optional): Strides, in pixels, of the levels to compare, in place
            of their indices on both sides: ``[8, 16, 32, 64]`` are the levels that necks with
            P2–P6 and P3–P7 share.
        regions (str, optional): Path of the student's RoI extractor. The teacher's RoI head then
            runs on the very regions that the student sampled in this step, without proposals,
            assignment or NMS of its own. For taps in RoI heads.
        resize (bool): Resize the student's maps (bilinear) where their size differs from the
            teacher's; tokens must be those of a square map then. Defaults to False, which makes
            maps of different sizes an error.
        channels_last (str, optional): ``'student'``, ``'teacher'`` or ``'both'``: whose tensors
            have their channels last, as in transformers. (B, H, W, C) and, of a square map,
            (B, H·W, C) become (B, C, H, W); tokens of another number N become (B, C, N, 1).
            Defaults to None.
        balance (dict, optional): Options of :class:`LossBalance`, which finds the weight of
            ``loss_kd`` by the size of the student's own losses. Defaults to None.

    Raises:
        DistillationError: If an option has a value that it cannot have.
    """

    name: str
    student: str
    teacher: str
    loss: dict
    connector: dict | None = None
    student_levels: Sequence[int] | int | None = None
    teacher_levels: Sequence[int] | int | None = None
    strides: Sequence[PositiveInt] | PositiveInt | None = None
    regions: str | None = None
    resize: bool = False
    channels_last: Literal['student', 'teacher', 'both'] | None = None
    balance: dict | None = None

    def __post_init__(self) -> None:
        where = f'point {self.name!r}'
        if not self.name.isidentifier() or 'loss' in self.name:
            raise DistillationError(
                f"{where}: a point's name must be an identifier without 'loss' in it, "
                'since MMEngine adds up every logged value whose name contains that word.'
            )
        if hasattr(nn.ModuleDict(), self.name):
            raise DistillationError(
                f'{where}: every dict of modules has an attribute of this name; choose another.'
            )
        check_options({k: v for k, v in vars(self).items() if k != 'name'}, type(self), where)
        for key in ('student_levels', 'teacher_levels', 'strides'):
            if isinstance(getattr(self, key), int):
                object.__setattr__(self, key, [getattr(self, key)])
        if self.strides is not None and (
            self.student_levels is not None or self.teacher_levels is not None
        ):
            raise DistillationError(
                f'{where}: levels are chosen by strides or by student_levels and '
                'teacher_levels, not by both.'
            )

    @classmethod
    def from_config(cls, name: str, cfg: Mapping) -> 'PointOptions':
        """Reads a point's entry in ``points``.

        Raises:
            DistillationError: If an option is unknown, missing or has a value it cannot have.
        """
        if not isinstance(name, str):
            raise DistillationError(f"point {name!r}: a point's name must be a string.")
        if not isinstance(cfg, Mapping):
            raise DistillationError(f'point {name!r}: {cfg!r} must be a dict of its options.')
        check_options(cfg, cls, f'point {name!r}')
        missing = [key for key in ('student', 'teacher', 'loss') if key not in cfg]
        if missing:
            raise DistillationError(f'point {name!r}: {", ".join(missing)} is missing.')
        return cls(name, **cfg)

    @property
    def student_tap(self) -> Tap:
        return Tap(self.student, self.regions)

    @property
    def teacher_tap(self) -> Tap:
        return Tap(self.teacher, self.regions)

    @property
    def uncounted(self) -> list[str]:
        """Which of its parts, connector and loss, leave their number of levels open."""
        parts = []
        for part in ('connector', 'loss'):
            options = getattr(self, part) or {}
            target = part_class(options)
            if target is not None and options.get('num_levels') is None:
                if 'num_levels' in signature(target.__init__).parameters:
                    parts.append(part)
        return parts

    @property
    def needs_probe(self) -> bool:
        """Whether the student must be run to know which of its levels are compared."""
        return bool(self.strides or (self.uncounted and not self.student_levels))

    def count(self, num_levels: int) -> 'PointOptions':
        """These options with the number of levels for the parts that left it open.

        Args:
            num_levels (int): How many levels the student's tap gives, if none are chosen.
        """
        chosen = self.student_levels or self.strides
        number = num_levels if chosen is None else len(chosen)
        return replace(
            self, **{part: {**getattr(self, part), 'num_levels': number} for part in self.uncounted}
        )
