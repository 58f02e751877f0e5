"""The distiller: a student that is trained beside a frozen teacher."""

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from mmengine.logging import print_log
from mmengine.model import BaseModel, BaseModule
from torch import Tensor, nn

from ..errors import DistillationError
from ..registry import MODELS
from ..reparam import check_folded, fold
from ..taps import Record, outputs, record, record_regions
from .finite import check_finite
from .inheritance import inherit_tensors
from .model_checks import check_points, guide_of, named_in
from .point import DistillationPoint
from .point_building import look_at_teacher, naming, plan_points
from .reach import ReachLog
from .student_model import build_student
from .student_names import StudentNames
from .teacher import ONLY, FrozenTeacher
from .teachers import Teachers
from .watching import LossWatch


@MODELS.register_module()
class Distiller(StudentNames, BaseModel):
    """Trains a student with its own losses and those of distillation points.

    In a checkpoint the student's weights have the names they have in the student alone, the
    connectors stand under ``distillation.``, and the teacher is absent. So a checkpoint loads into
    the plain student, and a plain student's checkpoint loads here. Attributes not found here are
    looked up in the student. The teacher is built and loaded by ``init_weights``, which MMEngine
    calls before training only; everything but training needs the student alone.

    Args:
        student (dict): Config of the student, any model of MMDetection, MMSegmentation or
            MMPretrain.
        teacher (dict, optional): Options of :class:`FrozenTeacher`; or a dict of several teachers'
            options by their names, of which each point says its own by ``teacher_name``. May be
            left out if there are no points.
        points (dict, optional): Options of a point, see :class:`PointOptions`, by the point's name.
        inherit (Sequence[str] | str | dict): Parts of the student, such as
            ``['neck', 'bbox_head']``, that are initialised from the teacher's where names and
            shapes agree; of several teachers, parts by a teacher's name. Defaults to none.
        branches (dict, optional): Options of :class:`~diffkd_mm.reparam.Surgery`: ``layers``,
            ``num_branches`` and ``noise``. These layers of the student are several in training and
            fold into one. They need no teacher and no point.
        watch (bool): Warn in the log of a point whose loss does not fall, or outweighs the
            student's own tenfold, see :class:`LossWatch`. Defaults to True.
        data_preprocessor (dict, optional): The student's, where a config keeps it outside of the
            model, as MMPretrain's do.
        pretrained (None): Set by MMSegmentation's ``init_model``, which means a segmentor.
        train_cfg (None): Likewise. The student's own are in its config.

    Raises:
        DistillationError: If a part of the config is wrong; the message names it.
    """

    student: nn.Module

    def __init__(
        self,
        student: dict,
        teacher: dict | None = None,
        points: dict | None = None,
        inherit: Sequence[str] | str | dict = (),
        branches: dict | None = None,
        watch: bool = True,
        data_preprocessor: dict | None = None,
        pretrained: None = None,
        train_cfg: None = None,
    ) -> None:
        if pretrained is not None or train_cfg is not None:
            raise DistillationError(
                'pretrained and train_cfg are options of the student: student=dict(…).'
            )
        student_model = build_student(student, data_preprocessor, branches)
        super().__init__(data_preprocessor=student_model.data_preprocessor)
        self.student = student_model
        self.teachers = Teachers(teacher, points, inherit)
        self.inherit = self.teachers.parts_to_inherit(inherit)
        self._reach = ReachLog()
        self._watch = LossWatch() if watch else None
        self._plans = plan_points(student_model, points or {})
        groups = self.teachers.group({name: x.options for name, x in self._plans.items()})
        self.teachers.check_all_teach(groups, self.inherit)
        self._taught = {k: {x: self._plans[x] for x in group} for k, group in groups.items()}
        self._teacher_errors: dict[str, Exception] = {}
        self.distillation = nn.ModuleDict()
        self._build_first_points()
        self.give_student_its_names()

    # Building

    def fold(self) -> nn.Module:
        """A copy of the student as its own config builds it, every layer in branches folded."""
        return fold(self.student)

    def _build_first_points(self) -> None:
        """Builds the points; if some ask for a teacher's channels, with a look at that teacher.

        That takes its config alone, no weights. Testing needs no teacher: where there is no such
        config, these points are left out, and the reason is told when training begins.
        """
        levels = {}
        for name, teacher in self.teachers.items():
            if not any(x.options.asks_teacher for x in self._taught[name].values()):
                continue
            try:
                # Weights that are drawn here must not change those that the student is given.
                with torch.random.fork_rng([]):
                    model = teacher.build_network()
                size = partial(teacher.image_size, model=model)
                levels |= look_at_teacher(self._taught[name], model, size)
            except Exception as error:
                self._teacher_errors[name] = error
        self._build_points(levels)
        for name, error in self._teacher_errors.items():
            print_log(
                f'points {", ".join(self._left_out(name))} are left out, which does for testing: '
                f'the {self.teachers[name].label} could not be looked at ({error})',
                logger='current',
                level=logging.WARNING,
            )

    def _build_points(self, teacher_levels: Mapping[str, list[Tensor]]) -> None:
        """Builds the points that are missing, but for those that ask for levels not given."""
        points = dict(self.distillation.items())
        for name, plan in self._plans.items():
            if name not in points and (name in teacher_levels or not plan.options.asks_teacher):
                points[name] = plan.build(teacher_levels.get(name))
        self.distillation = nn.ModuleDict(
            {name: points[name] for name in self._plans if name in points}
        )

    def _left_out(self, teacher: str) -> list[str]:
        """The points that cannot be built without a teacher."""
        return [name for name in self._taught[teacher] if name not in self.distillation]

    def init_weights(self) -> None:
        """Initialises student and points as their configs say, then builds and loads the teachers.

        Raises:
            DistillationError: If teacher, checkpoint and points do not fit together.
        """
        super().init_weights()
        for module in self.distillation.modules():  # which points do not hand on to their parts
            if isinstance(module, BaseModule) and not module.is_init:
                module.init_weights()
        # The averaged copy in a semi-supervised detector is frozen and needs none.
        if any(parameter.requires_grad for parameter in self.student.parameters()):
            self.build_teacher()
        for name, parts in self.inherit.items():
            if self.teachers[name].model is not None:
                inherit_tensors(self.student, self.teachers[name].as_loaded(), parts)

    @property
    def teacher(self) -> FrozenTeacher | None:
        """The only teacher, if there is one; several are in ``teachers`` by their names."""
        return self.teachers.only

    def build_teacher(self) -> None:
        """Builds and loads each teacher, once, and checks it against its points and the student.

        Raises:
            DistillationError: If teacher, checkpoint and points do not fit together.
        """
        for name, teacher in self.teachers.items():
            if self.teachers.is_taken(name):
                continue
            if left_out := self._left_out(name):  # too late for optimizer and DDP
                error = self._teacher_errors[name]
                raise DistillationError(f'points {", ".join(left_out)}: {error}') from error
            device = next(self.student.parameters()).device
            # A copy of this distiller may have built the teacher that they share.
            self.use_teacher(teacher.model or teacher.build(device), name)

    def use_teacher(self, model: nn.Module, name: str = ONLY) -> None:
        """Takes a model as a teacher and checks it against its points and the student.

        Args:
            model (nn.Module): The teacher with its weights, on the student's device.
            name (str): Which of several it is. Defaults to the only one.

        Raises:
            DistillationError: If a point does not fit.
        """
        self.teachers.take(name, model, self.student)
        size = self.teachers[name].image_size
        if self._left_out(name):
            self._build_points(look_at_teacher(self._taught[name], model, size))
        points = {key: self.distillation[key] for key in self._taught[name]}
        check_points(points, self.student, model, size)
        self.teachers[name].run.untouched = named_in(points.values())

    def _load_from_state_dict(self, state_dict, prefix, *args) -> None:
        """Passes over the tensors of points that are left out for want of a teacher.

        Raises:
            DistillationError: If the checkpoint's student has layers in branches that this has not.
        """
        own = (key.removeprefix(prefix) for key in state_dict if key.startswith(prefix))
        check_folded(own, self, 'the checkpoint')
        points = f'{prefix}distillation.'
        if len(self.distillation) < len(self._plans) or not self._plans:
            for key in [x for x in state_dict if x.startswith(points)]:
                if key.removeprefix(points).split('.')[0] not in self.distillation:
                    del state_dict[key]
        super()._load_from_state_dict(state_dict, prefix, *args)

    def _dump_init_info(self) -> None:
        """Logs how the student's parameters were initialised, as for the student alone."""
        self.student._dump_init_info()

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
        if not self._plans:
            return self.student(inputs, data_samples, mode='loss')
        weights = {name: point.weight() for name, point in self.distillation.items()}
        points = {name: self.distillation[name] for name, weight in weights.items() if weight}
        options = [point.options for point in points.values()]
        extractors = list({x.regions for x in options if x.regions is not None})
        if not extractors:  # before the student, whose activations would be held meanwhile
            teacher_records = self.run_teacher(inputs, data_samples, None, list(points))
        with (
            record(self.student, [x.recorded for x in options]) as student_records,
            record_regions(self.student, extractors) as regions,
        ):
            losses = self.student(inputs, data_samples, mode='loss')
        if self._watch is not None:
            self._watch.look([key for key in losses if 'loss' in key], points)
        own = None
        if any(point.balance is not None for point in points.values()):
            own, _ = self.student.parse_losses(losses)
        if extractors:
            teacher_records = self.run_teacher(inputs, data_samples, regions, list(points))
        for name, point in self.distillation.items():
            if name in points:
                recorded = student_records[point.options.recorded]
                with naming(name):
                    point_losses = self._compare(
                        point, recorded, teacher_records[name], data_samples, own
                    )
                point_losses = point.weigh(point_losses, weights[name])
            else:
                point_losses = point.idle(inputs)
            losses.update({f'{name}.{key}': value for key, value in point_losses.items()})
        return losses

    def _compare(
        self,
        point: DistillationPoint,
        student: Record,
        teacher: Record,
        data_samples: list,
        own: Tensor | None,
    ) -> dict[str, Tensor]:
        """A point's losses, before its schedule; ``own`` is the sum of the student's."""
        students = outputs(student, point.options.recorded, 'student')
        teachers = outputs(teacher, point.options.teacher, 'teacher')
        losses = point(
            students, teachers, data_samples, guide_of(point, self.teachers.of(point.options).model)
        )
        if point.balance is not None:
            losses |= point.balance(own, losses['loss_kd'], students)
        self._reach.look(self.student, point, students, losses)
        return losses

    @torch.no_grad()
    def run_teacher(
        self,
        inputs: Tensor,
        data_samples: list | None = None,
        regions: dict[str, list[Tensor]] | None = None,
        points: Sequence[str] | None = None,
    ) -> dict[str, Record]:
        """Runs each teacher as deep as its taps need.

        Args:
            inputs (Tensor): Images of shape (B, 3, H, W), as the student's preprocessor made them.
            data_samples (list, optional): Data samples of the images.
            regions (dict, optional): The student's regions by the path of its RoI extractor, see
                :func:`record_regions`. Without them, points that need some are left out.
            points (Sequence[str], optional): Names of the points to run them for. Defaults to all.

        Returns:
            dict[str, Record]: What the teacher's tap gave, by the point's name.
        """
        self.build_teacher()
        chosen = {
            name: self.distillation[name].options
            for name in (self.distillation if points is None else points)
            if regions is not None or self.distillation[name].options.regions is None
        }
        return self.teachers.run(chosen, inputs, data_samples, regions)

    def teacher_losses(self, inputs: Tensor, data_samples: list | None = None) -> dict[str, Tensor]:
        """The connectors' losses that need the teacher alone, for a warm start of the denoisers.

        Points on the student's regions have none.
        """
        records = self.run_teacher(inputs, data_samples)
        losses = {}
        for name, point in self.distillation.items():
            if point.connector is not None and point.options.regions is None:
                tensors = outputs(records[name], point.options.teacher, 'teacher')
                levels = point.select(tensors, 'teacher')
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
        check_finite(total, log_vars, self)
        return total, log_vars

    # Devices

    def _apply(self, fn, *args):
        for teacher in self.teachers.values():
            teacher.apply(fn)
        return super()._apply(fn, *args)
