"""Distillation points: what is compared with what, and how."""

import difflib
import inspect
import math
from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import DistillationError
from ..registry import MODELS, build_model
from .taps import Tap


def build_part(cfg: dict, where: str) -> nn.Module:
    """Builds a connector or a loss, and names the place in the config if that fails.

    Args:
        cfg (dict): Config with the key ``type``.
        where (str): What to call the place in the message.

    Returns:
        nn.Module: The module.

    Raises:
        DistillationError: If the type or an option is unknown or refused.
    """
    part_class = MODELS.get(cfg['type']) if isinstance(cfg.get('type'), str) else None
    if part_class is not None:
        check_options(cfg, part_class, where)
    try:
        return build_model(cfg)
    except (KeyError, TypeError, ValueError) as error:
        raise DistillationError(f'{where}: {error}') from error


def check_options(cfg: dict, target: type, where: str) -> None:
    """Checks the keys of a config against the parameters of a class.

    Raises:
        DistillationError: Names the unknown option and the nearest existing one.
    """
    parameters = inspect.signature(target.__init__).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return
    known = [name for name in parameters if name not in ('self', 'name')]
    for option in cfg:
        if option not in known and option not in ('type', '_scope_'):
            near = difflib.get_close_matches(option, known, n=1)
            hint = f' Did you mean {near[0]!r}?' if near else ''
            raise DistillationError(
                f'{where}: {target.__name__} has no option {option!r}.{hint} '
                f'Options: {", ".join(known)}.'
            )


class DistillationPoint(nn.Module):
    """A student tap, a teacher tap, a connector between them and a loss.

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
        DistillationError: If the config is wrong.
    """

    def __init__(
        self,
        name: str,
        student: str,
        teacher: str,
        loss: dict,
        connector: dict | None = None,
        student_levels: Sequence[int] | None = None,
        teacher_levels: Sequence[int] | None = None,
        strides: Sequence[int] | None = None,
        regions: str | None = None,
        resize: bool = False,
        channels_last: str | None = None,
        balance: dict | None = None,
    ) -> None:
        super().__init__()
        if channels_last not in (None, 'student', 'teacher', 'both'):
            raise DistillationError(
                f"point {name!r}: channels_last={channels_last!r} must be 'student', 'teacher' or "
                "'both'."
            )
        if not name.isidentifier() or 'loss' in name:
            raise DistillationError(
                f"point {name!r}: a point's name must be an identifier without 'loss' in it, "
                'since MMEngine adds up every logged value whose name contains that word.'
            )
        if strides is not None and (student_levels is not None or teacher_levels is not None):
            raise DistillationError(
                f'point {name!r}: levels are chosen by strides or by student_levels and '
                'teacher_levels, not by both.'
            )
        self.name = name
        self.student = student
        self.teacher = teacher
        self.student_levels = student_levels
        self.teacher_levels = teacher_levels
        self.strides = strides
        self.regions = regions
        self.student_tap: Tap = (student, regions)
        self.teacher_tap: Tap = (teacher, regions)
        self.resize = resize
        self.channels_last = channels_last
        self.connector = None
        if connector is not None:
            self.connector = build_part(connector, f'point {name!r}, connector')
        self.loss = build_part(loss, f'point {name!r}, loss')
        self.balance = None
        if balance is not None:
            balance = {'type': 'LossBalance', **balance}
            self.balance = build_part(balance, f'point {name!r}, balance')
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
        for stride in self.strides:
            size = -(-image_size // stride)  # necks round up
            found = [i for i, s in enumerate(sizes) if s == (size, size)]
            if len(found) != 1:
                strides = ', '.join(
                    str(round(image_size / max(s))) if len(s) == 2 else 'none' for s in sizes
                )
                raise DistillationError(
                    f'strides={list(self.strides)} asks for one level of stride {stride}, and the '
                    f'{side} tap {getattr(self, side)!r} has {len(found)}: its levels have strides '
                    f'{strides}. Choose by student_levels and teacher_levels instead.'
                )
            indices += found
        setattr(self, f'{side}_levels', indices)

    def select(self, levels: Sequence, side: str) -> list:
        """Chooses the levels of one side (``'student'`` or ``'teacher'``), channels first.

        Raises:
            DistillationError: If an index is out of range.
        """
        levels = self._channels_first(levels, side)
        indices = getattr(self, f'{side}_levels')
        if indices is None:
            return levels
        if any(not -len(levels) <= i < len(levels) for i in indices):
            raise DistillationError(
                f'{side}_levels={list(indices)} asks for levels that the {side} tap '
                f'{getattr(self, side)!r} does not have: it gives {len(levels)}.'
            )
        return [levels[i] for i in indices]

    def _channels_first(self, levels: Sequence[Tensor], side: str) -> list[Tensor]:
        if self.channels_last not in (side, 'both'):
            return list(levels)
        if self.resize and any(x.dim() == 3 and not _is_square(x.size(1)) for x in levels):
            raise DistillationError(
                f'the {side} tap {getattr(self, side)!r} outputs {levels[0].size(1)} tokens, which '
                'are no square map and cannot be resized. Is one a class token? Tap a module after '
                'which there is none, or one that outputs a map.'
            )
        return [_as_map(x) for x in levels]

    def check(self, students: Sequence, teachers: Sequence) -> None:
        """Checks number, size and channels of the chosen levels.

        Args:
            students (Sequence[Tensor]): The student's levels.
            teachers (Sequence[Tensor]): The teacher's levels.

        Raises:
            DistillationError: Says what was found, what was expected and what to change.
        """
        if len(students) != len(teachers):
            raise DistillationError(
                f'the student tap {self.student!r} gives {len(students)} levels, the teacher tap '
                f'{self.teacher!r} {len(teachers)}. Choose matching ones by strides, or by '
                'student_levels and teacher_levels, such as student_levels=[0] where the student '
                'calls the module several times in a step.'
            )
        for i, (student, teacher) in enumerate(zip(students, teachers)):
            self._check_kind(i, student, teacher)
            if student.shape[2:] != teacher.shape[2:] and not self.resize:
                raise DistillationError(
                    f'level {i} has size {tuple(student.shape[2:])} in the student and '
                    f'{tuple(teacher.shape[2:])} in the teacher. Choose levels by strides, or by '
                    'student_levels and teacher_levels, or set resize=True.'
                )
            if self.connector is None:
                self._check_loss_channels(i, student, teacher)
        if self.connector is not None:
            self.connector.check_levels(students, teachers)

    def _check_kind(self, i: int, student: Tensor, teacher: Tensor) -> None:
        """Both sides are tensors of the same kind, one that the loss takes, of the same samples."""
        found = (
            f'level {i} has shape {tuple(student.shape)} in the student and '
            f'{tuple(teacher.shape)} in the teacher'
        )
        dims = getattr(self.loss, 'dims', None) or (self.connector and (2, 4))
        taken = not dims or student.dim() in dims
        tokens = [side for side, x in (('student', student), ('teacher', teacher)) if x.dim() == 3]
        if tokens and not (taken and student.shape == teacher.shape):
            side = tokens[0] if len(tokens) == 1 and self.channels_last is None else 'both'
            raise DistillationError(
                f'{found}: are these tokens (B, N, C)? They are compared as maps: set '
                f"the point's channels_last={side!r}."
            )
        if student.dim() != teacher.dim():
            raise DistillationError(
                f'{found}: maps (B, C, H, W) are compared with maps, vectors (B, C) with vectors.'
            )
        if len(student) != len(teacher):
            raise DistillationError(
                f'{found}, not the same samples. Taps in RoI heads need regions=, the path of the '
                'RoI extractor.'
            )
        if not taken:
            kinds = ' or '.join({2: 'vectors (B, C)', 4: 'maps (B, C, H, W)'}[x] for x in dims)
            raise DistillationError(f'{found}, and {type(self.loss).__name__} compares {kinds}.')

    def _check_loss_channels(self, i: int, student: Tensor, teacher: Tensor) -> None:
        """Both sides have as many channels, or as many as a loss that names them expects."""
        if hasattr(self.loss, 'student_channels'):
            expected = self.loss.student_channels, self.loss.teacher_channels
            if (student.shape[1], teacher.shape[1]) != expected:
                raise DistillationError(
                    f'level {i} has {student.shape[1]} channels in the student and '
                    f'{teacher.shape[1]} in the teacher, but the loss has '
                    f'student_channels={expected[0]} and teacher_channels={expected[1]}.'
                )
        elif student.shape[1] != teacher.shape[1]:
            raise DistillationError(
                f'level {i} has {student.shape[1]} channels in the student and '
                f'{teacher.shape[1]} in the teacher. Add a connector, e.g. '
                f"dict(type='ConvConnector', student_channels={student.shape[1]}, "
                f'teacher_channels={teacher.shape[1]}).'
            )

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
        refined, targets, losses = self.refine(students, teachers)
        loss_kd = 0
        for level, (x, y) in enumerate(zip(refined, targets)):
            available = dict(data_samples=data_samples, level=level)
            loss = self.loss(x, y, **{key: available[key] for key in self._loss_takes})
            if loss.numel() != 1:
                raise DistillationError(
                    f'{type(self.loss).__name__} gives a tensor of shape {tuple(loss.shape)} and '
                    "not a number. Has it a reduction? Set it to 'mean'."
                )
            loss_kd += loss
        return {'loss_kd': loss_kd, **losses}

    def _zero(self, students: Sequence[Tensor]) -> Tensor:
        """A loss of zero with a gradient of zero for everything that DDP expects one for."""
        return 0 * (sum(x.sum() for x in students) + sum(p.sum() for p in self.parameters()))

    def refine(
        self, students: Sequence[Tensor], teachers: Sequence[Tensor]
    ) -> tuple[list[Tensor], list[Tensor], dict[str, Tensor]]:
        """Refined student tensors, targets and the connector's losses, level by level."""
        students, teachers = self.select(students, 'student'), self.select(teachers, 'teacher')
        self.check(students, teachers)
        if self.resize:
            students = [
                x
                if x.shape[2:] == y.shape[2:]
                else F.interpolate(x, y.shape[2:], mode='bilinear', align_corners=False)
                for x, y in zip(students, teachers)
            ]
        if self.connector is None:
            return students, teachers, {}
        return self.connector(students, teachers)


def _is_square(number: int) -> bool:
    return math.isqrt(number) ** 2 == number


def _as_map(x: Tensor) -> Tensor:
    """(B, H, W, C) and tokens (B, N, C) as a map with its channels first."""
    if x.dim() == 3:
        side = math.isqrt(x.size(1))
        x = x.unflatten(1, (side, side) if _is_square(x.size(1)) else (x.size(1), 1))
    return x.movedim(-1, 1)
