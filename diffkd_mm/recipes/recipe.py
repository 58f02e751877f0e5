"""The recipe for a pair of models: what is compared, how, why, and what could not be."""

from collections.abc import Callable
from typing import NamedTuple

from torch import nn

from ..distillers.model_checks import check_points
from ..distillers.point_building import look_at_teacher, plan_points
from ..distillers.preprocessing import check_channels, pixels_of_both
from ..distillers.student_model import refuse_semi_supervised
from ..errors import DistillationError
from .matching import Pair, pair_features, pair_logits, pair_regression
from .methods import (
    METHODS,
    Terms,
    box_terms,
    compares_logits,
    connector_of,
    latent_reason,
)
from .survey import Survey, survey
from .training import Setting, settings
from .zoo import NamedModel, find_model


class Point(NamedTuple):
    """A distillation point and what is said of it.

    Args:
        config (dict): Its options.
        what (str): Which outputs are compared.
        why (str): Where loss and weight come from.
    """

    config: dict
    what: str
    why: str


class Recipe(NamedTuple):
    """How a student learns from a teacher.

    Args:
        student (NamedModel): The student.
        teacher (NamedModel): The teacher with its weights.
        kinds (tuple[str, str]): What they are, such as ``'RetinaNet with RetinaHead'``.
        method (str): Name of the method.
        points (dict[str, Point]): What is compared, by the points' names.
        inherit (list[str]): Parts of the student that start as the teacher's.
        training (list[Setting]): What changes in the student's schedule.
        custom_imports (list[str]): Modules that the student's config imports.
        unmatched (list[str]): What the method would compare and why it is not.
    """

    student: NamedModel
    teacher: NamedModel
    kinds: tuple[str, str]
    method: str
    points: dict[str, Point]
    inherit: list[str]
    training: list[Setting]
    custom_imports: list[str]
    unmatched: list[str]


def recommend(
    student: str, teacher: str, method: str = 'diffkd', checkpoint: str | None = None
) -> Recipe:
    """Finds how a student learns from a teacher: builds both, looks at their outputs, chooses.

    No weights are read or downloaded.

    Args:
        student (str): Name, path or ``package::path``, see :func:`~.zoo.find_model`.
        teacher (str): The same of the teacher.
        method (str): A key of :data:`~.methods.METHODS`. Defaults to ``'diffkd'``.
        checkpoint (str, optional): Path or URL of the teacher's weights. Defaults to those that
            the zoo lists, if it does.

    Returns:
        Recipe: What was chosen; its teacher's checkpoint is None where none is known.

    Raises:
        DistillationError: If a model is not found or does not run, or nothing can be compared.
    """
    if method not in METHODS:
        raise DistillationError(f'method {method!r}: there are {", ".join(METHODS)}.')
    named = find_model(student, 'student'), find_model(teacher, 'teacher')
    return recommend_for(
        survey(named[0], 'student'), survey(named[1], 'teacher'), method, checkpoint
    )


def recommend_for(
    student: Survey, teacher: Survey, method: str = 'diffkd', checkpoint: str | None = None
) -> Recipe:
    """The same as :func:`recommend` for models that have been looked at."""
    refuse_semi_supervised(student.model, 'student')
    refuse_semi_supervised(teacher.model, 'teacher')
    check_channels(student.model, teacher.model)
    pixels_of_both(student.model.data_preprocessor, teacher.model.data_preprocessor)
    points = {}
    unmatched = [side.headless for side in (student, teacher) if side.headless]
    for alternatives in _proposals(student, teacher, method):
        for propose in alternatives:
            try:
                proposed = propose()
                for name, point in proposed.items():
                    _check(name, point, student.model, teacher.model)
            except DistillationError as error:
                unmatched.append(str(error).rstrip('.'))
            else:
                points.update(proposed)
                break
    if not points:
        raise DistillationError(
            f'nothing of {student.kind} and {teacher.kind} can be compared by {method}: '
            f'{"; ".join(unmatched)}.'
        )
    named = teacher.named
    if checkpoint is not None:
        named = named._replace(checkpoint=checkpoint)
    return Recipe(
        student=student.named,
        teacher=named,
        kinds=(student.kind, teacher.kind),
        method=method,
        points=points,
        inherit=_inherit(method, student, teacher),
        training=settings(method, student, points),
        custom_imports=list((student.cfg.get('custom_imports') or {}).get('imports', [])),
        unmatched=unmatched,
    )


def _proposals(student: Survey, teacher: Survey, method: str) -> list[list[Callable]]:
    """What the method would compare: alternatives, functions that refuse what does not fit."""
    chosen = METHODS[method]

    def logits() -> dict[str, Point]:
        pair = pair_logits(student, teacher)
        return dict(logits=_point(pair, chosen.logits(student, teacher), student, teacher))

    def features() -> dict[str, Point]:
        pair = pair_features(student, teacher)
        terms = chosen.features(student, teacher, pair.teacher_channels)
        if terms.max_stride is not None:
            pair = pair_features(student, teacher, terms.max_stride)
        name = 'fpn' if pair.student == 'neck' and pair.strides else 'feature'
        return {name: _point(pair, terms, student, teacher)}

    def boxes() -> dict[str, Point]:
        pairs = pair_regression(student, teacher)
        return {
            name: _point(pair, box_terms(name), student, teacher) for name, pair in pairs.items()
        }

    scores = compares_logits(method, student)
    if scores and chosen.features and student.task == 'segmentation':
        # A segmentor's scores are a map, and what a method of features takes.
        return [[logits, features]]
    return [
        [propose]
        for propose, wanted in (
            (features, chosen.features),
            (logits, scores),
            (boxes, chosen.boxes),
        )
        if wanted
    ]


def _point(pair: Pair, terms: Terms, student: Survey, teacher: Survey) -> Point:
    connector = None
    if 'regions' not in pair.options and not terms.loss['type'].startswith('mmdet.'):
        connector = connector_of(terms, pair, student, teacher)
    config = dict(student=pair.student, teacher=pair.teacher, **pair.options)
    why = terms.why
    if connector is not None:
        config['connector'] = connector
        if latent := connector.get('latent_channels'):
            why += f'; {latent_reason(latent, student)}'
        if terms.connector is None:
            why += '; a 1×1 conv, since the channels differ'
    config['loss'] = terms.loss
    return Point(config, str(pair), why)


def _check(name: str, point: Point, student: nn.Module, teacher: nn.Module) -> None:
    """The distiller's own checks of a point, on the models that have been built.

    Raises:
        DistillationError: If it would refuse it.
    """
    plans = plan_points(student, {name: point.config})
    asking = any(plan.options.asks_teacher for plan in plans.values())
    levels = look_at_teacher(plans, teacher, _same_size) if asking else {}
    built = {name: plan.build(levels.get(name)) for name, plan in plans.items()}
    check_points(nn.ModuleDict(built), student, teacher, _same_size)


def _same_size(size: tuple[int, int]) -> tuple[int, int]:
    """The size of the teacher's images for that of the student's: recipes scale neither."""
    return size


def _inherit(method: str, student: Survey, teacher: Survey) -> list[str]:
    """Parts that start as the teacher's, as FGD's authors have them: neck and heads of one kind."""
    if method != 'fgd' or type(student.head) is not type(teacher.head):
        return []
    mine, its = student.model, teacher.model
    return [
        name
        for name in ('neck', 'rpn_head', 'roi_head', 'bbox_head')
        if hasattr(mine, name) and hasattr(its, name) and _same_shapes(mine, its, name)
    ]


def _same_shapes(student: nn.Module, teacher: nn.Module, name: str) -> bool:
    shapes = [
        {key: value.shape for key, value in getattr(model, name).state_dict().items()}
        for model in (student, teacher)
    ]
    return shapes[0] == shapes[1]
