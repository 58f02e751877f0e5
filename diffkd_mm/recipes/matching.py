"""Pairing what a student and a teacher output: features, class scores, boxes."""

import math
import re
from typing import NamedTuple

from torch import nn

from ..errors import DistillationError
from ..taps import Output, outputs_queries
from .survey import Survey, maps, prefix_tokens, strides, vectors


class Pair(NamedTuple):
    """Two taps whose levels correspond.

    Args:
        student (str): Path of the student's module.
        teacher (str): Path of the teacher's.
        options (dict): What a point needs to select and to align the levels.
        student_channels (list[int]): Of the levels that are compared.
        teacher_channels (list[int]): The same.
        strides (list[int]): Of these levels in the student, in pixels; empty of vectors.
    """

    student: str
    teacher: str
    options: dict
    student_channels: list[int]
    teacher_channels: list[int]
    strides: list[int]

    def __str__(self) -> str:
        at = f'strides {", ".join(map(str, self.strides))}; ' if self.strides else ''
        sizes = ', '.join(
            f'{a} ← {b}'
            for a, b in dict.fromkeys(zip(self.student_channels, self.teacher_channels))
        )
        return f'{self.student} ← {self.teacher} ({at}channels {sizes})'


def pair_features(student: Survey, teacher: Survey, max_stride: int | None = None) -> Pair:
    """Necks by their common strides; without two necks backbones, as maps or as vectors.

    Args:
        student (Survey): The student.
        teacher (Survey): The teacher.
        max_stride (int, optional): Levels of larger strides are left out.

    Returns:
        Pair: The taps.

    Raises:
        DistillationError: If no two outputs are of the same kind.
    """
    sides = student, teacher
    necks = [side.output('neck') for side in sides]
    if all(map(maps, necks)):
        return _pair_levels(*necks, max_stride)
    found = [_spatial(side) for side in sides]
    if all(found):
        return _pair_spatial(*found, student.task, max_stride)
    for side, name in _sides(student, teacher):
        if side.scores is not None:
            raise DistillationError(f"features: the {name}'s backbone ends in class scores")
    found = [side.pooled for side in sides]
    if all(found):
        return _pair_whole(*found)
    raise DistillationError(
        'features: the backbones output '
        + ' and '.join(_kind(side.output('backbone')) for side in sides)
        + ', which cannot be compared'
    )


def pair_logits(student: Survey, teacher: Survey) -> Pair:
    """Class scores of classifiers and segmentors, and of the regions of two-stage detectors.

    Raises:
        DistillationError: Says why they cannot be compared.
    """
    if student.task != teacher.task:
        raise DistillationError(f'class scores: {student.task} and {teacher.task} have none alike')
    if student.task == 'detection':
        paths = [_in_roi_head(side, 'fc_cls') for side in (student, teacher)]
        if None in paths:
            raise DistillationError(
                'class scores: only those of the regions of two-stage detectors are a distribution '
                'over classes'
            )
        pair = _pair_regions(student, teacher, *paths)
    else:
        pair = _pair_whole(*(_scores(side, name) for side, name in _sides(student, teacher)))
        if _feeds_a_cascade(student.model, pair.student):
            pair.options.setdefault('student_levels', [0])
    if pair.student_channels != pair.teacher_channels:
        raise DistillationError(
            f'class scores: the student has {pair.student_channels[0]} classes and the teacher '
            f'{pair.teacher_channels[0]}'
        )
    return pair


def pair_regression(student: Survey, teacher: Survey) -> dict[str, Pair]:
    """Predicted boxes of detectors whose heads agree, by the names of the points.

    Raises:
        DistillationError: Says why they cannot be compared.
    """
    if student.task != 'detection' or teacher.task != 'detection':
        return {}
    paths = [_in_roi_head(side, 'fc_reg') for side in (student, teacher)]
    if None not in paths:
        pair = _pair_regions(student, teacher, *paths)
        _check_boxes(student, teacher, pair, *(path.rpartition('.')[0] for path in paths))
        return dict(reg=pair)
    pairs = {}
    for name, path in _BOXES.items():
        taps = [side.output(path) for side in (student, teacher)]
        if all(taps):
            pairs[name] = _pair_levels(*taps)
            _check_boxes(student, teacher, pairs[name], 'bbox_head', 'bbox_head')
    if not pairs:
        raise DistillationError(f'boxes: {_why_no_boxes(student, teacher)}')
    return pairs


# Layers of dense heads equal outputs of which are equal boxes: nothing behind them is learned.
_BOXES = dict(
    reg='bbox_head.retina_reg',
    refine='bbox_head.reppoints_pts_refine_out',
    init='bbox_head.reppoints_pts_init_out',
)


def _pair_levels(student: Output, teacher: Output, max_stride: int | None = None) -> Pair:
    """All levels if both have the same strides, else those of common ones, else the nearest two."""
    mine, its = strides(student), strides(teacher)
    options = {}
    common = [x for x in mine if mine.count(x) == its.count(x) == 1]
    wanted = [x for x in common if max_stride is None or x <= max_stride] or common
    if mine == its and (len(wanted) == len(mine) or not common):
        chosen = list(zip(range(len(mine)), range(len(its))))
    elif wanted:
        options['strides'] = wanted
        chosen = [(mine.index(x), its.index(x)) for x in wanted]
    else:
        chosen = [_nearest(mine, its)]
        options.update(student_levels=[chosen[0][0]], teacher_levels=[chosen[0][1]])
        options['resize'] = mine[chosen[0][0]] != its[chosen[0][1]]
        options = {key: value for key, value in options.items() if value is not False}
    return Pair(
        student.path,
        teacher.path,
        options,
        [student.channels[i] for i, _ in chosen],
        [teacher.channels[j] for _, j in chosen],
        [mine[i] for i, _ in chosen],
    )


def _nearest(mine: list[int], its: list[int]) -> tuple[int, int]:
    """Indices of the levels whose strides differ least, of equals the deepest."""
    pairs = [(i, j) for i in range(len(mine)) for j in range(len(its))]
    return min(pairs, key=lambda x: (abs(math.log(mine[x[0]] / its[x[1]])), -x[0], -x[1]))


def _spatial(side: Survey) -> Output | None:
    """The backbone's maps or, of a transformer, the tokens of its last block."""
    backbone = side.output('backbone')
    if maps(backbone) or _tokens(backbone):
        return backbone
    blocks = [x for x in side.outputs if re.fullmatch(r'backbone\.\w+\.\d+', x.path)]
    return next((x for x in reversed(blocks) if _tokens(x)), None)


def _tokens(output: Output | None) -> bool:
    """Whether it is the tokens (1, N, C) of a square map, perhaps with some before them."""
    if output is None or len(output.shapes) != 1:
        return False
    (shape,) = output.shapes
    return len(shape) == 3 and shape[0] == 1 and prefix_tokens(output) is not None


def _pair_spatial(student: Output, teacher: Output, task: str, max_stride: int | None) -> Pair:
    """Maps by their strides, of classifiers and segmentors the last; tokens as maps."""
    tokens = [_tokens(output) for output in (student, teacher)]
    if task == 'detection' and not any(tokens):
        return _pair_levels(student, teacher, max_stride)
    options, at = {}, []
    for side, output, is_tokens in zip(('student', 'teacher'), (student, teacher), tokens):
        if len(output.shapes) > 1:
            options[f'{side}_levels'] = [len(output.shapes) - 1]
        if is_tokens:
            patches = output.shapes[-1][1] - prefix_tokens(output)
            at.append(output.image_size // math.isqrt(patches))
        else:
            at.append(strides(output)[-1])
    if any(tokens):
        options['channels_last'] = 'both' if all(tokens) else ('student', 'teacher')[tokens[1]]
        dropped = [prefix_tokens(x) if y else 0 for x, y in zip((student, teacher), tokens)]
        if all(tokens) and dropped[0] != dropped[1]:
            options['drop_tokens'] = dict(student=dropped[0], teacher=dropped[1])
        elif any(dropped):
            options['drop_tokens'] = max(dropped)
    if at[0] != at[1]:
        options['resize'] = True
    return Pair(
        student.path, teacher.path, options, student.channels[-1:], teacher.channels[-1:], at[:1]
    )


def _pair_whole(student: Output, teacher: Output) -> Pair:
    """One map or vector of each side, resized if need be."""
    at = [strides(x)[-1] for x in (student, teacher)]
    options = {}
    for side, output in (('student', student), ('teacher', teacher)):
        if len(output.shapes) > 1:  # a layer that is called several times
            options[f'{side}_levels'] = [len(output.shapes) - 1]
    if at[0] != at[1]:
        options['resize'] = True
    found = [x for x in at[:1] if x is not None]
    return Pair(
        student.path, teacher.path, options, student.channels[-1:], teacher.channels[-1:], found
    )


def _sides(student: Survey, teacher: Survey) -> tuple:
    return (student, 'student'), (teacher, 'teacher')


def _scores(side: Survey, name: str) -> Output:
    """The layer that gives a classifier's vector or a segmentor's map of class scores."""
    if side.scores is not None:
        return side.scores
    segments = side.task == 'segmentation'
    numbers = [getattr(side.head, name, None) for name in ('num_classes', 'out_channels')]
    known = {x for x in numbers if isinstance(x, int)}
    found = [
        x
        for x in side.predictions('decode_head' if segments else 'head')
        if (maps(x) if segments else vectors(x)) and (not known or x.channels[-1] in known)
    ]
    if segments and name == 'student':  # a training calls a method of the head, not the head
        found = [x for x in found if side.model.get_submodule(x.path) is not side.head]
    if not found:
        head = getattr(side.model, 'decode_head', None)
        queries = head is not None and outputs_queries(side.model, 'decode_head')
        why = 'one per query, which are not matched' if queries else 'in no layer of its head'
        raise DistillationError(f"class scores: the {name}'s ({side.kind}) are {why}")
    if not segments:
        return found[0]  # DeiT's second is that of its distillation token
    return ([x for x in found if x.path.endswith('conv_seg')] or found)[-1]


def _feeds_a_cascade(model: nn.Module, path: str) -> bool:
    """Whether a layer is in a decode head that others follow: training runs it once for each."""
    head, number, *_ = [*path.split('.'), '']
    heads = getattr(model, head, None)
    return isinstance(heads, nn.ModuleList) and int(number) < len(heads) - 1


def _in_roi_head(side: Survey, layer: str) -> str | None:
    """Path of a layer in a RoI head, of a cascade in its first stage."""
    for path in (f'roi_head.bbox_head.{layer}', f'roi_head.bbox_head.0.{layer}'):
        if side.output(path) is not None and not outputs_queries(side.model, path):
            return path
    return None


def _pair_regions(student: Survey, teacher: Survey, mine: str, its: str) -> Pair:
    """Taps in RoI heads, on the regions that the student samples."""
    stage = '.0' if '.0.' in mine else ''
    options = dict(regions=f'roi_head.bbox_roi_extractor{stage}')
    channels = [x.output(path).channels[-1:] for x, path in ((student, mine), (teacher, its))]
    return Pair(mine, its, options, *channels, [])


def _check_boxes(student: Survey, teacher: Survey, pair: Pair, mine: str, its: str) -> None:
    """Equal outputs are equal boxes: the same code, relative to the same anchors."""
    heads = student.model.get_submodule(mine), teacher.model.get_submodule(its)
    if pair.student_channels != pair.teacher_channels:
        raise DistillationError(
            f'boxes: {pair.student} gives {pair.student_channels[0]} numbers and the '
            f"teacher's {pair.teacher_channels[0]}, as where one shares its boxes between classes "
            'or has other anchors'
        )
    coders = [
        (type(x), vars(x) if x is not None else None)
        for x in (getattr(head, 'bbox_coder', None) for head in heads)
    ]
    if coders[0] != coders[1]:
        raise DistillationError('boxes: the box coders of both heads differ')
    anchors = [repr(getattr(head, 'prior_generator', None)) for head in heads]
    if mine == 'bbox_head' and anchors[0] != anchors[1]:
        raise DistillationError('boxes: the anchors of both heads differ')


def _why_no_boxes(student: Survey, teacher: Survey) -> str:
    for side, name in _sides(student, teacher):
        path = 'roi_head.bbox_head' if hasattr(side.model, 'roi_head') else 'bbox_head'
        if hasattr(side.model, path.split('.')[0]) and outputs_queries(side.model, path):
            return f"the {name}'s are one per query, which are not matched"
    mine, its = student.head, teacher.head
    if type(mine) is not type(its):
        return f'the heads differ, {type(mine).__name__} and {type(its).__name__}'
    if any(type(x).__name__ == 'Scale' for x in mine.modules()):
        return (
            f'{type(mine).__name__} multiplies them by a learned number for each level, so that '
            'equal outputs are not equal boxes'
        )
    return f'for {type(mine).__name__} it is not known which outputs are equal boxes'


def _kind(output: Output | None) -> str:
    if output is None:
        return 'nothing that a tap could take'
    return 'tensors of shape ' + ', '.join(str(shape) for shape in output.shapes)
