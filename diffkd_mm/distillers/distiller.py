"""The distiller: a student that is trained beside a frozen teacher."""

from collections.abc import Iterator
from typing import Any

import torch
from mmengine.model import BaseModel
from mmengine.registry import MODELS as MMENGINE_MODELS
from torch import Tensor, nn

from ..errors import DistillationError
from ..registry import MODELS
from .point import DistillationPoint, check_options
from .taps import check_tap, not_called, outputs, probe, record, run_to_taps
from .teacher import FrozenTeacher

_STUDENT = 'student.'
_DISTILLATION = 'distillation.'


@MODELS.register_module()
class Distiller(BaseModel):
    """Trains a student with its own losses and those of distillation points.

    In a checkpoint the student's weights have the names they have in the student alone, the
    connectors stand under ``distillation.``, and the teacher is absent. So a checkpoint loads into
    the plain student, and a plain student's checkpoint loads here. Attributes not found here are
    looked up in the student. The teacher is built and loaded by ``init_weights``, which MMEngine
    calls before training only; everything but training needs the student alone.

    Args:
        student (dict): Config of the student, any model of MMDetection, MMSegmentation or
            MMPretrain.
        teacher (dict, optional): Options of :class:`FrozenTeacher`: ``config``, ``checkpoint`` and
            ``trust_checkpoint``. May be left out if there are no points.
        points (dict, optional): Options of a :class:`DistillationPoint` by the point's name.
        data_preprocessor (dict, optional): The student's, where a config keeps it outside of the
            model, as MMPretrain's do.

    Raises:
        DistillationError: If a part of the config is wrong; the message names it.
    """

    student: nn.Module

    def __init__(
        self,
        student: dict,
        teacher: dict | None = None,
        points: dict | None = None,
        data_preprocessor: dict | None = None,
    ) -> None:
        student = dict(student)
        if data_preprocessor is not None:
            student.setdefault('data_preprocessor', data_preprocessor)
        student_model = MMENGINE_MODELS.build(student)
        super().__init__(data_preprocessor=student_model.data_preprocessor)
        self.student = student_model
        self.teacher: FrozenTeacher | None = None
        if teacher is not None:
            check_options(teacher, FrozenTeacher, 'teacher')
            self.teacher = FrozenTeacher(**teacher)
        self.distillation = nn.ModuleDict(self._build_points(points or {}))
        if self.distillation and self.teacher is None:
            raise DistillationError(
                'the points need a teacher: teacher=dict(config=…, checkpoint=…).'
            )
        self._register_state_dict_hook(_give_student_its_names)

    # Building

    def _build_points(self, configs: dict[str, dict]) -> dict[str, DistillationPoint]:
        configs = {name: dict(cfg) for name, cfg in configs.items()}
        for name, cfg in configs.items():
            check_options(cfg, DistillationPoint, f'point {name!r}')
            missing = [key for key in ('student', 'teacher', 'loss') if key not in cfg]
            if missing:
                raise DistillationError(f'point {name!r}: {", ".join(missing)} is missing.')
            check_tap(self.student, cfg['student'], f'point {name!r}, student tap')
        self._count_levels(configs)
        return {name: DistillationPoint(name, **cfg) for name, cfg in configs.items()}

    def _count_levels(self, configs: dict[str, dict]) -> None:
        """Fills in ``num_levels`` of connectors that leave it open, from a run of the student."""
        uncounted = {
            name: cfg
            for name, cfg in configs.items()
            if cfg.get('connector') and cfg['connector'].get('num_levels') is None
        }
        unknown = {}
        for name, cfg in uncounted.items():
            if cfg.get('student_levels') is not None:
                cfg['connector'] = {**cfg['connector'], 'num_levels': len(cfg['student_levels'])}
            else:
                unknown[name] = cfg
        if not unknown:
            return
        shapes = probe(self.student, [cfg['student'] for cfg in unknown.values()])
        for name, cfg in unknown.items():
            if shapes is None or not shapes[cfg['student']]:
                raise DistillationError(
                    f'point {name!r}: the student could not be run on a blank image to count the '
                    f'levels of {cfg["student"]!r}; set num_levels in the connector.'
                )
            cfg['connector'] = {**cfg['connector'], 'num_levels': len(shapes[cfg['student']])}

    def init_weights(self) -> None:
        """Initialises the student as its config says, then builds and loads the teacher.

        Raises:
            DistillationError: If teacher, checkpoint and points do not fit together.
        """
        super().init_weights()
        self.build_teacher()

    def build_teacher(self) -> None:
        """Builds and loads the teacher, once, and checks it against points and student.

        Raises:
            DistillationError: If teacher, checkpoint and points do not fit together.
        """
        if self.teacher is None or self.teacher.model is not None or not self.distillation:
            return
        device = next(self.student.parameters()).device
        teacher = self.teacher.build(device)
        for name, point in self.distillation.items():
            check_tap(teacher, point.teacher, f'point {name!r}, teacher tap')
        _check_preprocessing(self.student.data_preprocessor, teacher.data_preprocessor)
        self._check_shapes(teacher)

    def _check_shapes(self, teacher: nn.Module) -> None:
        """Compares both models' levels on a blank image, so that a mismatch shows at once."""
        students = probe(self.student, self._taps('student'))
        teachers = probe(teacher, self._taps('teacher'))
        if students is None or teachers is None:
            return  # a tap that needs annotations: the first training step checks it
        for name, point in self.distillation.items():
            try:
                if not teachers[point.teacher]:
                    raise not_called('teacher', point.teacher)
                if students[point.student]:  # else called with annotations only, or never
                    point.check(
                        point.select(students[point.student], 'student'),
                        point.select(teachers[point.teacher], 'teacher'),
                    )
            except DistillationError as error:
                raise DistillationError(f'point {name!r}: {error}') from error

    def _taps(self, side: str) -> list[str]:
        return [getattr(point, side) for point in self.distillation.values()]

    # Running

    def forward(self, inputs: Tensor, data_samples: list | None = None, mode: str = 'tensor'):
        """The student's forward pass; with ``mode='loss'`` the teacher's as well.

        Args:
            inputs (Tensor): Preprocessed images of shape (B, 3, H, W).
            data_samples (list, optional): Data samples of the images.
            mode (str): ``'loss'``, ``'predict'`` or ``'tensor'``, as in MMEngine.

        Returns:
            What the student returns; with ``mode='loss'`` a dict of its losses and the points'.
        """
        if mode == 'loss':
            return self.loss(inputs, data_samples)
        return self.student(inputs, data_samples, mode=mode)

    def loss(self, inputs: Tensor, data_samples: list) -> dict[str, Any]:
        """The student's losses under their names, a point's as ``<point>.<loss>``.

        Raises:
            DistillationError: If a tap does not fire or levels do not fit; names the point.
        """
        if not self.distillation:
            return self.student(inputs, data_samples, mode='loss')
        teacher_records = self.run_teacher(inputs, data_samples)
        with record(self.student, self._taps('student')) as student_records:
            losses = self.student(inputs, data_samples, mode='loss')
        for name, point in self.distillation.items():
            try:
                point_losses = point(
                    outputs(student_records, point.student, 'student'),
                    outputs(teacher_records, point.teacher, 'teacher'),
                )
            except DistillationError as error:
                raise DistillationError(f'point {name!r}: {error}') from error
            losses.update({f'{name}.{key}': value for key, value in point_losses.items()})
        return losses

    @torch.no_grad()
    def run_teacher(self, inputs: Tensor, data_samples: list | None = None) -> dict:
        """Runs the teacher as deep as its taps need; returns their records."""
        self.build_teacher()
        teacher = self.teacher.model
        paths = self._taps('teacher')
        with record(teacher, paths) as records:
            run_to_taps(teacher, paths, inputs, data_samples)
        return records

    def teacher_losses(self, inputs: Tensor, data_samples: list | None = None) -> dict[str, Tensor]:
        """The connectors' losses that need the teacher alone, for a warm start of the denoisers."""
        records = self.run_teacher(inputs, data_samples)
        losses = {}
        for name, point in self.distillation.items():
            if point.connector is not None:
                levels = point.select(outputs(records, point.teacher, 'teacher'), 'teacher')
                for key, value in point.connector.teacher_losses(levels).items():
                    losses[f'{name}.{key}'] = value
        return losses

    def parse_losses(self, losses: dict[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
        """Adds up the losses and refuses to go on with one that is not finite.

        Raises:
            FloatingPointError: Names the losses that are NaN or infinite, before they can reach
                the weights.
        """
        total, log_vars = self.student.parse_losses(losses)
        if not torch.isfinite(total):
            bad = ', '.join(f'{k}={v.item()}' for k, v in log_vars.items() if not v.isfinite())
            raise FloatingPointError(
                f'{bad}: training stops before this reaches the weights. Checkpoints written so '
                'far are good; lower the learning rate or a loss weight, clip gradients, or use '
                'bfloat16 or float32 in place of float16.'
            )
        return total, log_vars

    # Names, copies and devices

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            # Code that reaches into a model (hooks, optimizer constructors) means the student.
            return getattr(super().__getattr__('student'), name)

    def named_parameters(self, prefix: str = '', *args, **kwargs) -> Iterator:
        """As for any module, but with the student's parameters under their own names.

        Optimizer constructors choose learning rates by these names.
        """
        own = f'{prefix}.{_STUDENT}' if prefix else _STUDENT
        for name, parameter in super().named_parameters(prefix, *args, **kwargs):
            if name.startswith(own):
                name = own.removesuffix(_STUDENT) + name.removeprefix(own)
            yield name, parameter

    def _load_from_state_dict(self, state_dict, prefix, local_metadata, *args) -> None:
        metadata = getattr(state_dict, '_metadata', None)
        for names in (state_dict, metadata):
            for key in list(names or ()):
                if key.startswith(prefix) and not key.startswith(prefix + _DISTILLATION):
                    renamed = prefix + _STUDENT + key.removeprefix(prefix)
                    # Versions are looked up by whoever holds the dict, so they stay as well.
                    names[renamed] = names.pop(key) if names is state_dict else names[key]
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *args)

    def _apply(self, fn, *args):
        if self.teacher is not None:
            self.teacher.apply(fn)
        return super()._apply(fn, *args)


def _give_student_its_names(module: nn.Module, state_dict: dict, prefix: str, *args) -> None:
    """State dict hook: ``student.backbone.…`` becomes ``backbone.…``."""
    metadata = getattr(state_dict, '_metadata', {})
    for names in (state_dict, metadata):
        for key in list(names):
            if key.startswith(prefix + _STUDENT):
                names[prefix + key.removeprefix(prefix + _STUDENT)] = names.pop(key)


def _values(name: str):
    return lambda module: getattr(module, name, torch.empty(0)).flatten().tolist()


# What decides the pixels a model sees. The packages have different names for swapping channels.
_PIXELS = {
    'mean': _values('mean'),
    'std': _values('std'),
    'channel conversion': lambda module: any(
        getattr(module, name, False)
        for name in ('_channel_conversion', 'channel_conversion', 'to_rgb')
    ),
}


def _check_preprocessing(student: nn.Module, teacher: nn.Module) -> None:
    """Student and teacher are fed the same tensor, so both must expect the same pixels.

    Raises:
        DistillationError: Names what differs.
    """
    for name, getter in _PIXELS.items():
        found = [getter(module) for module in (student, teacher)]
        if found[0] != found[1]:
            raise DistillationError(
                f'student and teacher expect different images: {name} of the data '
                f'preprocessor is {found[0]} in the student and {found[1]} in the teacher. Use a '
                'teacher trained with the same preprocessing.'
            )
