"""Surveying a model: building it once, without weights, and listing what can be tapped."""

import math
from typing import NamedTuple

from mmengine.config import Config
from mmengine.registry import MODELS
from torch import nn

from ..configs import is_distillation, load_config
from ..distillers.teacher import FrozenTeacher
from ..errors import DistillationError, first_line
from ..taps import Output, list_outputs, outputs_queries, worth_tapping
from .zoo import NamedModel

TASKS = dict(mmdet='detection', mmseg='segmentation', mmpretrain='classification')


class Survey(NamedTuple):
    """A model, what it is and what its modules output.

    Args:
        named (NamedModel): Config and weights.
        cfg (Config): The config.
        model (nn.Module): The model with random weights.
        task (str): ``'detection'``, ``'segmentation'`` or ``'classification'``.
        outputs (list[Output]): What its modules output for a blank image.
        headless (str, optional): Why there is nothing of its heads among them, if so.
    """

    named: NamedModel
    cfg: Config
    model: nn.Module
    task: str
    outputs: list[Output]
    headless: str | None = None

    @property
    def kind(self) -> str:
        """The classes of detector and head, such as ``RetinaNet``."""
        head = self.head
        return type(self.model).__name__ + (f' with {type(head).__name__}' if head else '')

    @property
    def head(self) -> nn.Module | None:
        """The head that predicts; of a cascade of segmentation heads the last."""
        for name in ('roi_head', 'bbox_head', 'mask_head', 'panoptic_head', 'decode_head', 'head'):
            head = getattr(self.model, name, None)
            if isinstance(head, nn.ModuleList):
                return head[-1]
            if isinstance(head, nn.Module):
                return head
        return None

    @property
    def num_classes(self) -> int | None:
        """How many classes the head knows, as it says itself."""
        number = getattr(self.head, 'num_classes', None)
        if self.scores is not None:
            number = self.scores.channels[-1]
        return number if isinstance(number, int) else None

    @property
    def pooled(self) -> Output | None:
        """The vector that the head of a classifier takes."""
        return next((x for x in map(self.output, ('neck', 'backbone')) if vectors(x)), None)

    @property
    def scores(self) -> Output | None:
        """That vector where it is the class scores: a head without layers has VGG."""
        bare = self.head is not None and not any(True for _ in self.head.parameters())
        return self.pooled if self.task == 'classification' and bare else None

    def output(self, path: str) -> Output | None:
        """What a module outputs; None of one that is missing or not called."""
        return next((x for x in self.outputs if x.path == path), None)

    def predictions(self, head: str) -> list[Output]:
        """Outputs of the layers in a head that nothing but a prediction is made of."""
        worth = worth_tapping(self.outputs)
        if not hasattr(self.model, 'backbone'):  # a foreign model, with names of its own
            return worth
        return [
            x
            for x in worth
            if x.path.split('.')[0] == head and not outputs_queries(self.model, x.path)
        ]


def survey(named: NamedModel, side: str) -> Survey:
    """Builds a model with random weights and runs it once on a blank image.

    Args:
        named (NamedModel): The model.
        side (str): ``'student'`` or ``'teacher'``, for messages.

    Returns:
        Survey: What was found.

    Raises:
        DistillationError: If it cannot be built, is of none of the three packages, or does not run.
    """
    cfg = load_config(named.config, side)
    if side == 'student' and is_distillation(cfg.model):
        raise DistillationError(
            f'student: {named.config!r} is a distillation already; give the config of its student.'
        )
    try:
        model = MODELS.build(FrozenTeacher(named.config, '').model_config())
    except Exception as error:  # any program may be in a config
        raise DistillationError(
            f'{side}: the model of {named.config!r} cannot be built: {first_line(error)}'
        ) from error
    packages = [cls.__module__.split('.')[0] for cls in type(model).__mro__]
    task = next((TASKS[name] for name in packages if name in TASKS), None)
    if task is None:
        raise DistillationError(
            f'{side}: {type(model).__name__} is no model of MMDetection, MMSegmentation or '
            'MMPretrain.'
        )
    try:
        return Survey(named, cfg, model, task, list_outputs(model))
    except DistillationError as error:
        cause = f'{side}: {error}'
    try:  # heads that need annotations even to predict: Sparse R-CNN's
        return Survey(named, cfg, model, task, list_outputs(model, heads=False), cause)
    except DistillationError as error:
        raise DistillationError(cause) from error


def strides(output: Output) -> list[int | None]:
    """Strides of an output's levels in pixels: powers of two where the sizes agree with one.

    A neck rounds sizes up, so that those of a 300-pixel image tell more than their quotient.
    """
    return [
        None if stride is None else _snapped(stride, max(shape[2:]), output.image_size)
        for stride, shape in zip(output.strides, output.shapes)
    ]


def _snapped(stride: int, size: int, image_size: int) -> int:
    near = 2 ** round(math.log2(max(stride, 1)))
    return near if -(-image_size // near) == size else stride


def maps(output: Output | None) -> bool:
    """Whether every level is a map (B, C, H, W) of the image."""
    return output is not None and all(stride is not None for stride in output.strides)


def vectors(output: Output | None) -> bool:
    """Whether there is one level, a vector (B, C)."""
    return output is not None and len(output.shapes) == 1 and len(output.shapes[0]) == 2


def prefix_tokens(output: Output) -> int | None:
    """How many tokens of (B, N, C) stand before those of a square map; None if that is no guess."""
    number, side = output.shapes[-1][1], math.isqrt(output.shapes[-1][1])
    fits = side > 2 and output.image_size % side == 0
    return number - side**2 if fits and number - side**2 <= 8 else None
