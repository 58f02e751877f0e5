"""What a config says of a distillation point, checked before anything is built."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from inspect import signature
from typing import Literal

from torch import Tensor, nn

from ..errors import DistillationError
from ..options import NonNegativeFloat, NonNegativeInt, PositiveInt, check_options, fits, part_class
from ..reparam import STATES
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
        chain (dict, optional): Config of a chain, ``dict(type='KDiffusionChain')``: the student tap
            is then a layer of the distiller's ``branches``, the connector, if there is one, brings
            each branch to the teacher's channels, and the loss compares the chain's steps.
        guidance (str, optional): Path of the teacher's linear layer (convolution or linear) that
            takes the tapped feature: what student and teacher give is compared through its weights
            as well (``loss_guide``, target guidance of KDiffusion, eq. 14). A linear layer on a
            map takes the map's mean, as behind a pooling. Defaults to None: no guidance.
        guidance_weight (float): Weight of ``loss_guide``. Open in the slides. Defaults to 1.0.
        student_levels (Sequence[int], optional): Indices of the student levels. Defaults to all.
        teacher_levels (Sequence[int], optional): Indices of the teacher levels. Defaults to all.
        strides (Sequence[int], optional): Strides, in pixels, of the levels to compare, in place
            of their indices on both sides: ``[8, 16, 32, 64]`` are the levels that necks with
            P2–P6 and P3–P7 share. They are pixels of the student's image, also of a teacher with a
            ``scale``, so that maps have one size; with ``resize``, each of the own image.
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
        schedule (dict, optional): Options of :class:`Schedule`, which says from when to when the
            point's losses count. Defaults to None: always.
        drop_tokens (int | dict): How many tokens before those of the image's patches are left out
            on the sides with ``channels_last``: 1 for a class token, 2 for DeiT's with its
            distillation token; ``dict(student=1, teacher=2)`` where they differ. Defaults to 0.
        queries (str, optional): ``'index'``: taps on the queries of DETRs, Sparse R-CNN and
            MaskFormers are compared query by query. Without a correspondence, such as that of a
            student that inherits the teacher's queries, this means nothing, so the default, None,
            refuses them.
        teacher_name (str, optional): Which of several teachers is tapped. Defaults to None: the
            only one.

    Raises:
        DistillationError: If an option has a value that it cannot have.
    """

    name: str
    student: str
    teacher: str
    loss: dict
    connector: dict | None = None
    chain: dict | None = None
    guidance: str | None = None
    guidance_weight: NonNegativeFloat = 1.0
    student_levels: Sequence[int] | int | None = None
    teacher_levels: Sequence[int] | int | None = None
    strides: Sequence[PositiveInt] | PositiveInt | None = None
    regions: str | None = None
    resize: bool = False
    channels_last: Literal['student', 'teacher', 'both'] | None = None
    balance: dict | None = None
    schedule: dict | None = None
    drop_tokens: NonNegativeInt | dict = 0
    queries: Literal['index'] | None = None
    teacher_name: str | None = None

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
            if getattr(self, key) is not None and not getattr(self, key):
                raise DistillationError(
                    f'{where}: {key}=[] chooses no level; name some, or leave it out for all.'
                )
        if len(set(self.strides or ())) < len(self.strides or ()):
            raise DistillationError(
                f'{where}: strides={list(self.strides)} names a stride more than once.'
            )
        if self.strides is not None and (
            self.student_levels is not None or self.teacher_levels is not None
        ):
            raise DistillationError(
                f'{where}: levels are chosen by strides or by student_levels and '
                'teacher_levels, not by both.'
            )
        if self.chain is not None and not (
            self.student_levels is self.strides is self.regions is None
        ):
            raise DistillationError(
                f'{where}: a chain takes the one output of a layer in branches; leave out '
                'student_levels, strides and regions.'
            )
        if self.chain is not None and 'num_levels' in self.open_options('loss'):
            raise DistillationError(
                f'{where}: a chain compares several steps of one level, and {self.loss["type"]} '
                'learns modules per level; use another loss, such as MSELoss.'
            )
        if self.guidance and (self.connector or {}).get('latent_channels'):
            raise DistillationError(
                f"{where}: guidance multiplies the teacher's features by its own weights, and "
                'latent_channels replaces them by a latent; leave out one of the two.'
            )
        self._check_dropped_tokens(where)

    def _check_dropped_tokens(self, where: str) -> None:
        by_side = self.drop_tokens
        if isinstance(by_side, Mapping) and not (
            set(by_side) <= {'student', 'teacher'}
            and all(fits(number, NonNegativeInt) for number in by_side.values())
        ):
            raise DistillationError(
                f'{where}: drop_tokens={dict(by_side)!r} must be a number of tokens or '
                'dict(student=…, teacher=…) of two.'
            )
        if self.channels_last is None and (
            self.dropped_tokens('student') or self.dropped_tokens('teacher')
        ):
            raise DistillationError(
                f'{where}: drop_tokens={by_side!r} leaves out tokens (B, N, C), which have their '
                'channels last: say whose by channels_last as well.'
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
    def recorded(self) -> str:
        """Path of the student's module whose outputs the point takes in a step."""
        return self.student if self.chain is None else f'{self.student}.{STATES}'

    @property
    def student_tap(self) -> Tap:
        return Tap(self.student, self.regions)

    @property
    def teacher_tap(self) -> Tap:
        return Tap(self.teacher, self.regions)

    def dropped_tokens(self, side: str) -> int:
        """How many tokens are left out on one side, ``'student'`` or ``'teacher'``."""
        if isinstance(self.drop_tokens, Mapping):
            return self.drop_tokens.get(side, 0)
        return self.drop_tokens

    def open_options(self, part: str) -> list[str]:
        """What ``'connector'`` or ``'loss'`` takes of :data:`_FOUND` and the config leaves out."""
        options = getattr(self, part) or {}
        target = part_class(options)
        if target is None:
            return []
        taken = signature(target.__init__).parameters
        # Behind a connector a loss compares what that makes of the channels.
        found = _FOUND if part == 'connector' or self.connector is None else ('num_levels',)
        return [key for key in found if key in taken and options.get(key) is None]

    @property
    def _open(self) -> set[str]:
        return {*self.open_options('connector'), *self.open_options('loss')}

    @property
    def needs_student(self) -> list[str]:
        """What cannot be known without a run of the student."""
        needed = ['strides'] if self.strides else []
        if 'num_levels' in self._open and not (self.student_levels or self.strides):
            needed.append('num_levels')
        if 'student_channels' in self._open:
            needed.append('student_channels')
        return needed

    @property
    def asks_student(self) -> bool:
        """Whether a run of the student tells something of use."""
        return bool(self.needs_student) or 'vectors' in self._open

    @property
    def asks_teacher(self) -> bool:
        """Whether the channels of the teacher's levels are left out."""
        return 'teacher_channels' in self._open

    def complete(
        self, students: Sequence[Tensor] | None = None, teachers: Sequence[Tensor] | None = None
    ) -> 'PointOptions':
        """These options with what connector and loss left open.

        Args:
            students (Sequence[Tensor], optional): The student's chosen levels, channels first.
            teachers (Sequence[Tensor], optional): The teacher's.
        """
        found = {}
        chosen = self.student_levels or self.strides
        if students is not None or chosen is not None:
            found['num_levels'] = len(chosen if students is None else students)
        if students is not None:
            found['student_channels'] = _channels(students)
            found['vectors'] = all(x.dim() == 2 for x in students)
        if teachers is not None:
            found['teacher_channels'] = _channels(teachers)
        parts = {}
        for part in ('connector', 'loss'):
            filled = {key: found[key] for key in self.open_options(part) if key in found}
            if filled:
                parts[part] = {**getattr(self, part), **filled}
        return replace(self, **parts)


# What a connector or a loss may leave to be found by looking at student and teacher.
_FOUND = ('num_levels', 'student_channels', 'teacher_channels', 'vectors')


def _channels(levels: Sequence[Tensor]) -> int | list[int]:
    """The number of channels of all levels, or a list where they differ."""
    numbers = [x.size(1) for x in levels]
    return numbers[0] if len(set(numbers)) == 1 else numbers
