"""Pictures of what the points compare, drawn while a training runs."""

from collections.abc import Sequence
from contextlib import ExitStack
from copy import copy

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor

from ..distillers import (
    Distiller,
    features_of,
    images_of,
    points_to_look_at,
    record_noise_weights,
)
from ..errors import DistillationError
from ..options import NonNegativeInt, PositiveInt, check_options
from ..pictures import draw_features, draw_noise_weights, pixels
from ..registry import HOOKS
from .generators import generator_states, restore_generators
from .wrapping import unwrapped


@HOOKS.register_module()
class PicturesHook(Hook):
    """Draws student, refined student and teacher features, and γ, every so many iterations.

    The pictures go to every backend of the visualizer: of points on feature maps
    ``<point>.saliency`` (DiffKD, Fig. 2 and 7), of points on a classifier's logits
    ``<point>.scores``, the teacher's top classes (Fig. 6), and of connectors with noise adapters
    ``<point>.noise_weight``, the histogram of γ since the last picture and the course of its mean
    (Fig. 5). Points on regions of a RoI head and on branches are left out.

    The training is not touched by it: weights, statistics and PyTorch's random numbers are those
    of a training without. The images are the first of the validation set, or of the training set
    where there is none, that have one size.

    Args:
        interval (int): Iterations between two pictures. Defaults to 500.
        num_images (int): Images that are drawn. The connector runs on as many as in a batch of
            the training, for its statistics. Defaults to 4.
        level (int): Level of the saliency; of a point with fewer its last. Defaults to 0.
        points (Sequence[str] | str, optional): Names of the points. Defaults to None: all.

    Raises:
        DistillationError: If an option is wrong, or there is no such point.
    """

    priority = 'VERY_LOW'

    def __init__(
        self,
        interval: PositiveInt = 500,
        num_images: PositiveInt = 4,
        level: NonNegativeInt = 0,
        points: Sequence[str] | str | None = None,
    ) -> None:
        given = dict(interval=interval, num_images=num_images, level=level, points=points)
        check_options(given, PicturesHook, 'custom_hooks')
        self.interval = interval
        self.num_images = num_images
        self.level = level
        self.points = [points] if isinstance(points, str) else points
        self._recording = ExitStack()
        self._weights: dict[str, dict[str, list[Tensor]]] = {}
        self._history: dict[str, list[tuple[int, dict[str, float]]]] = {}

    def before_train(self, runner: Runner) -> None:
        """Finds points and images.

        Raises:
            DistillationError: If the model is no distiller or has no such point.
        """
        model = unwrapped(runner)
        if not isinstance(model, Distiller):
            raise DistillationError(
                f'PicturesHook: the model is a {type(model).__name__}, which distils nothing; '
                'remove the hook.'
            )
        self._model = model
        self._points = {}
        for name in self.points or [None]:
            self._points |= points_to_look_at(model, name)
        states = generator_states()  # a pipeline may draw from them
        self._data, self._classes = _first_images(runner, self.num_images)
        restore_generators(states)
        self._images = images_of(model, self._data)[: self.num_images]

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch=None) -> None:
        """Begins to record γ; as everywhere here, hooks on modules live for one step."""
        self._records = {
            name: self._recording.enter_context(record_noise_weights(point))
            for name, point in self._points.items()
        }

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch=None, outputs=None
    ) -> None:
        """Ends the recording, and draws if it is time."""
        self._recording.close()
        for name, record in self._records.items():
            for level, weights in record.items():
                self._weights.setdefault(name, {}).setdefault(level, []).extend(weights)
        if self.every_n_train_iters(runner, self.interval):
            self._draw(runner)

    def _draw(self, runner: Runner) -> None:
        """Draws; all processes look, whose batch norms may be synchronised, and one writes."""
        step = runner.iter + 1
        for name, features in features_of(self._model, self._points, self._data).items():
            found = draw_features(self._images, features, self.level, self._classes)
            if found is not None:
                kind, figure = found
                runner.visualizer.add_image(f'{name}.{kind}', pixels(figure), step)
        for name, levels in self._weights.items():
            values = {level: torch.cat(x).float().cpu().numpy() for level, x in levels.items() if x}
            if values:
                means = {level: float(x.mean()) for level, x in values.items()}
                history = self._history.setdefault(name, [])
                history.append((step, means))
                figure = draw_noise_weights(values, history)
                runner.visualizer.add_image(f'{name}.noise_weight', pixels(figure), step)
        self._weights.clear()


def _first_images(runner: Runner, number: int) -> tuple[dict, Sequence[str] | None]:
    """A batch of images of one size, at least as many as in training, and the classes' names."""
    loop = runner.train_loop if runner.val_loop is None else runner.val_loop
    dataset = copy(loop.dataloader.dataset)  # some count what they gave
    batch_size = getattr(runner.train_dataloader.batch_sampler, 'batch_size', 1)
    wanted = max(number, batch_size)
    items: list[dict] = []
    for index in range(min(len(dataset), 10 * wanted)):
        item = dataset[index]
        if not items or item['inputs'].shape == items[0]['inputs'].shape:
            items.append(item)
        if len(items) == wanted:
            break
    classes = (getattr(dataset, 'metainfo', None) or {}).get('classes')
    return loop.dataloader.collate_fn(items), classes
