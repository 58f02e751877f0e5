"""The teacher's own figures before the first step, by which a wrong checkpoint shows."""

from copy import copy
from typing import Any

import torch
from mmengine.dataset import DefaultSampler
from mmengine.evaluator import Evaluator
from mmengine.hooks import Hook
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import DataLoader, Dataset, Subset

from ..distillers import Distiller, FrozenTeacher
from ..errors import DistillationError, first_line
from ..options import NonNegativeFloat, PositiveInt, check_options
from ..progress import Progress
from ..registry import HOOKS
from .generators import generator_states, restore_generators
from .wrapping import unwrapped

# The figures to judge by, the first that there is.
_FIGURES = ('mIoU', 'mAP', 'top1')
_LOW = 0.05  # of what there is between chance and perfection


@HOOKS.register_module()
class TeacherMetricHook(Hook):
    """Evaluates each teacher on the validation set before a training begins.

    It gets the very images that it will teach on, resized and preprocessed as in a training step.
    So weights of another config and a wrong ``mean`` or ``std`` show in a minute, and not at the
    end. The figures are logged as ``teacher/…``, of several teachers as ``teacher.<name>/…``; low
    ones are a warning. A teacher of other classes than the data's is passed over, and that is said.
    Skipped when training is resumed. The training is the same with and without it.

    Args:
        num_images (int, optional): Only the first so many images. Defaults to None: all.
        minimum (float, optional): What mIoU, mAP or top-1 accuracy should reach, as the metric
            counts it. Defaults to None: 5 % of the way from chance to perfection.

    Raises:
        DistillationError: If an option has a value that it cannot have.
    """

    priority = 'ABOVE_NORMAL'  # before anything trains on the teacher's features

    def __init__(
        self, num_images: PositiveInt | None = None, minimum: NonNegativeFloat | None = None
    ) -> None:
        given = dict(num_images=num_images, minimum=minimum)
        check_options(given, TeacherMetricHook, 'custom_hooks')
        self.num_images = num_images
        self.minimum = minimum

    def before_train(self, runner: Runner) -> None:
        """Evaluates and logs.

        Args:
            runner (Runner): The runner, whose model is a :class:`Distiller`.

        Raises:
            DistillationError: If there is no teacher, no validation set, or a teacher's predictions
                cannot be evaluated.
        """
        if runner.iter > 0:
            return
        model = unwrapped(runner)
        if not isinstance(model, Distiller) or not model.teachers:
            raise DistillationError('TeacherMetricHook: the model has no teacher; remove the hook.')
        if runner.val_loop is None:
            raise DistillationError(
                'TeacherMetricHook: the config has no val_dataloader, val_evaluator and val_cfg; '
                'add them or remove the hook.'
            )
        model.build_teacher()
        states = generator_states()
        for teacher in model.teachers.values():
            dataset = runner.val_loop.dataloader.dataset
            if reason := _other_classes(teacher, _classes(dataset)):
                runner.logger.warning(f'{teacher.label}: not evaluated, since {reason}.')
                continue
            try:
                figures, number = self._evaluate(runner, model, teacher)
            except Exception as error:
                raise DistillationError(
                    f'TeacherMetricHook: {teacher.label} cannot be evaluated on the validation set '
                    f'({type(error).__name__}: {first_line(error)}); remove the hook.'
                ) from error
            self._log(runner, teacher, figures, number, len(_classes(dataset)))
        restore_generators(states)

    @torch.no_grad()
    def _evaluate(
        self, runner: Runner, model: Distiller, teacher: FrozenTeacher
    ) -> tuple[dict[str, Any], int]:
        """A teacher's figures, and on how many images."""
        loader = self._loader(runner.val_loop.dataloader)
        evaluator = self._evaluator(runner.val_loop.evaluator, loader.dataset)
        what = f'batches of the validation set evaluated with {teacher.label}'
        progress = Progress(len(loader), what, runner.logger.info)
        for data in progress.over(loader):
            inputs = model.data_preprocessor(data, False)
            images, samples = model.teachers.images_for(
                teacher.name, inputs['inputs'], inputs['data_samples']
            )
            predictions = teacher.model(images, samples, mode='predict')
            evaluator.process(data_samples=predictions, data_batch=data)
        return evaluator.evaluate(len(loader.dataset)), len(loader.dataset)

    def _loader(self, loader: DataLoader) -> DataLoader:
        """A loader of the same images, or the first of them: that of the validation stays as is."""
        dataset = copy(loader.dataset)
        if self.num_images is not None:
            dataset = Subset(dataset, range(min(self.num_images, len(dataset))))
        return DataLoader(
            dataset,
            batch_size=loader.batch_sampler.batch_size,
            sampler=DefaultSampler(dataset, shuffle=False),
            num_workers=loader.num_workers,
            collate_fn=loader.collate_fn,
        )

    def _evaluator(self, evaluator: Evaluator, dataset: Dataset) -> Evaluator:
        """A copy without results, so that what metrics remember is not taken for the student's."""
        evaluator = copy(evaluator)
        evaluator.metrics = [copy(metric) for metric in evaluator.metrics]
        for metric in evaluator.metrics:
            metric.results = []
            if isinstance(dataset, Subset) and hasattr(metric, 'img_ids'):
                # COCO's would count what is in the others as missed.
                infos = (dataset.dataset.get_data_info(i) for i in dataset.indices)
                metric.img_ids = [info['img_id'] for info in infos]
        return evaluator

    def _log(
        self,
        runner: Runner,
        teacher: FrozenTeacher,
        figures: dict[str, Any],
        number: int,
        num_classes: int,
    ) -> None:
        numbers = {k: float(v) for k, v in figures.items() if isinstance(v, int | float)}
        tagged = {f'{teacher.label}/{key}': value for key, value in numbers.items()}
        runner.visualizer.add_scalars(tagged, step=runner.iter)
        listed = ', '.join(f'{key} {value:.4g}' for key, value in tagged.items())
        line = f'On {number} images of the validation set: {listed}'
        key = next((k for name in _FIGURES for k in numbers if name in k), None)
        minimum = self.minimum
        if key is not None and minimum is None:
            minimum = _minimum(key, num_classes)
        if key is None or numbers[key] >= minimum:
            runner.logger.info(line)
            return
        runner.logger.warning(
            f'{line}. {key} is suspiciously low, under {minimum:.4g}. Is the checkpoint that of '
            f'its config, and does the data_preprocessor there (mean, std, bgr_to_rgb) belong to '
            'these weights? If it can do no better, say so by minimum of TeacherMetricHook.'
        )


def _minimum(key: str, num_classes: int) -> float:
    """A figure that a teacher which sees what it was trained for does not fall below."""
    chance = 1 / num_classes if 'top1' in key and num_classes else 0.0
    scope = DefaultScope.get_current_instance()
    # MMDetection's go up to 1, the other packages' to 100.
    best = 1.0 if scope is None or scope.scope_name == 'mmdet' else 100.0
    return best * (chance + _LOW * (1 - chance))


def _classes(dataset: Dataset) -> list[str]:
    return list((getattr(dataset, 'metainfo', None) or {}).get('classes') or [])


def _other_classes(teacher: FrozenTeacher, data: list[str]) -> str | None:
    """Why a teacher's predictions are not of the data's classes, as far as both are known."""
    if not data:
        return None
    if teacher.classes is not None:
        if teacher.classes == data:
            return None
        here = f'on {len(teacher.classes)} classes such as {teacher.classes[0]!r}'
        return f'it was trained {here}, and the data have {len(data)} such as {data[0]!r}'
    number = _num_classes(teacher.model)
    if number in (None, len(data)):
        return None
    return f'it predicts {number} classes, and the data have {len(data)}'


def _num_classes(model: nn.Module) -> int | None:
    """How many classes a model predicts; a region proposal network alone has a single one."""
    numbers = (getattr(module, 'num_classes', None) for module in model.modules())
    return max((x for x in numbers if isinstance(x, int)), default=None)
