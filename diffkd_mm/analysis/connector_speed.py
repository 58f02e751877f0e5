"""The DiffKD connector against a plain implementation of the same arithmetic."""

import statistics
import time
from collections import Counter
from collections.abc import Callable, Sequence
from copy import deepcopy

import torch
import torch.nn.functional as F
from diffusers import DDIMScheduler
from torch import Tensor, nn

from diffkd_mm.compat import RUNS_ALL_ON_META
from diffkd_mm.connectors import DiffKDConnector
from diffkd_mm.losses import MSELoss

from .operators import OperatorCounter
from .timing import saved_storages

# Batch, channels and level sizes.
RETINANET = (1, 256, [(100, 152), (50, 76), (25, 38), (13, 19), (7, 10)])
SMALL = (16, 64, [(32, 32), (16, 16), (8, 8)])
DEMO = (16, 64, [(12, 12), (6, 6), (3, 3)])


class PlainDiffKD:
    """DiffKD in the most straightforward way: NCHW, eager, Diffusers' scheduler in a loop.

    It uses the modules of a connector, but runs none of the connector's code: every convolution,
    norm and activation is applied by PyTorch as it stands.

    Args:
        connector (DiffKDConnector): Gives the modules; without autoencoder and standardisation.
        noise_like (Callable): Draws the noise for a map. Defaults to ``torch.randn_like``.
    """

    def __init__(
        self, connector: DiffKDConnector, noise_like: Callable[[Tensor], Tensor] = torch.randn_like
    ) -> None:
        self.connector = connector
        self.noise_like = noise_like
        self.scheduler = DDIMScheduler(
            num_train_timesteps=1000,
            beta_start=1e-4,
            beta_end=0.02,
            beta_schedule='linear',
            clip_sample=False,
            set_alpha_to_one=True,
        )
        num_steps = len(connector.sampler.timesteps)
        self.scheduler.set_timesteps(2 * num_steps)
        self.timesteps = self.scheduler.timesteps[num_steps:]

    def __call__(
        self, students: Sequence[Tensor], teachers: Sequence[Tensor]
    ) -> tuple[list[Tensor], Tensor, Tensor]:
        """Refines the student's maps.

        Args:
            students (Sequence[Tensor]): Maps of shape (B, C, H, W), one per level.
            teachers (Sequence[Tensor]): Maps of the same shapes.

        Returns:
            tuple: Refined maps, ``loss_kd`` (MSE) and ``loss_diff``.
        """
        levels = self.connector.levels
        losses_diff = [self._diffusion_loss(lv.denoiser, x) for lv, x in zip(levels, teachers)]
        refined = [self._denoise(level, x) for level, x in zip(levels, students)]
        loss_kd = sum(F.mse_loss(x, y) for x, y in zip(refined, teachers))
        return refined, loss_kd, sum(losses_diff)

    def _diffusion_loss(self, denoiser: nn.Module, latent: Tensor) -> Tensor:
        noise = self.noise_like(latent)
        timesteps = torch.randint(1000, (len(latent),), device=latent.device)
        noisy = self.scheduler.add_noise(latent, noise, timesteps)
        return F.mse_loss(_predict_noise(denoiser, noisy, timesteps), noise)

    def _denoise(self, level: nn.Module, student: Tensor) -> Tensor:
        sample = _conv(level.student_projection, student)
        pooled = _bottleneck(level.noise_adapter.features, sample).mean((2, 3))
        weight = level.noise_adapter.linear(pooled).softmax(1)[:, :1, None, None]
        sample = weight * sample + (1 - weight) * self.noise_like(sample)
        for t in self.timesteps:
            noise_pred = _predict_noise(level.denoiser, sample, t[None].to(sample.device))
            sample = self.scheduler.step(noise_pred, t, sample).prev_sample
        conv, norm = level.output_projection
        return norm(_conv(conv, sample))


def _conv(conv: nn.Conv2d, x: Tensor) -> Tensor:
    return F.conv2d(x, conv.weight, conv.bias, padding=conv.padding)


def _bottleneck(bottleneck: nn.Module, x: Tensor) -> Tensor:
    y = x
    for module in bottleneck.block:
        y = _conv(module, y) if isinstance(module, nn.Conv2d) else module(y)
    return y + x


def _predict_noise(denoiser: nn.Module, x: Tensor, timesteps: Tensor) -> Tensor:
    first, second, conv, norm = denoiser.net
    x = x + denoiser.time_embedding(timesteps)[:, :, None, None]
    return norm(_conv(conv, _bottleneck(second, _bottleneck(first, x))))


class ConnectorWithLoss:
    """The connector with :class:`MSELoss`, called as :class:`PlainDiffKD` is."""

    def __init__(self, connector: DiffKDConnector) -> None:
        self.connector = connector
        self.loss = MSELoss()

    def __call__(
        self, students: Sequence[Tensor], teachers: Sequence[Tensor]
    ) -> tuple[list[Tensor], Tensor, Tensor]:
        """Refined maps, ``loss_kd`` and ``loss_diff``."""
        refined, targets, losses = self.connector(students, teachers)
        loss_kd = sum(self.loss(x, y) for x, y in zip(refined, targets))
        return refined, loss_kd, losses['loss_diff']


def features(shape: tuple, device: str) -> tuple[list[Tensor], list[Tensor]]:
    """Random student and teacher maps; the student's want a gradient."""
    batch, channels, sizes = shape
    students, teachers = (
        [torch.randn(batch, channels, *size, device=device) for size in sizes] for _ in range(2)
    )
    return [x.requires_grad_() for x in students], teachers


def run_step(model: Callable, connector: nn.Module, inputs: tuple) -> None:
    """One forward and backward pass, with no gradients at first."""
    connector.zero_grad()
    for student in inputs[0]:
        student.grad = None
    _, loss_kd, loss_diff = model(*inputs)
    (loss_kd + loss_diff).backward()


def timed_step(
    model: Callable,
    connector: nn.Module,
    inputs: tuple,
    device: str,
    clock: Callable[[], float] = time.perf_counter,
) -> dict:
    """Seconds of one forward and backward pass and, on a GPU, the bytes it needs at most."""
    on_gpu = device != 'cpu'
    if on_gpu:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        held = torch.cuda.memory_allocated()
    start = clock()
    run_step(model, connector, inputs)
    if on_gpu:
        torch.cuda.synchronize()
    seconds = clock() - start
    peak_bytes = torch.cuda.max_memory_allocated() - held if on_gpu else None
    return dict(seconds=seconds, peak_bytes=peak_bytes)


def as_model(name: str, connector: DiffKDConnector) -> Callable:
    """What a variant of :func:`variants` is measured by."""
    return PlainDiffKD(connector) if name == 'plain' else ConnectorWithLoss(connector)


def count_operators(shape: tuple, device: str, checkpointing: bool = False) -> dict[str, Counter]:
    """Operators of a forward and backward pass, see :class:`OperatorCounter`.

    They are counted on maps of a few pixels, since their number does not depend on the size.

    Args:
        shape (tuple): Batch, channels and level sizes, such as :data:`RETINANET`.
        device (str): ``'cpu'``, or ``'meta'`` for the path that is taken on a GPU, if PyTorch
            runs all of it there (:data:`~diffkd_mm.compat.RUNS_ALL_ON_META`).
        checkpointing (bool): Also ``with_cp=True``. Defaults to False.

    Returns:
        dict[str, Counter]: How often each operator ran, by the name of the variant.
    """
    batch, channels, sizes = shape
    shape = (batch, channels, [(2, 3)] * len(sizes))
    counts = {}
    for name, connector in variants(shape, device, checkpointing, compiled=False).items():
        inputs = features(shape, device)
        with OperatorCounter() as counter:
            run_step(as_model(name, connector), connector, inputs)
        counts[name] = counter.counts
    return counts


def variants(
    shape: tuple, device: str, checkpointing: bool, compiled: bool
) -> dict[str, DiffKDConnector]:
    """Connectors of equal weights by the name of the variant; see :func:`measure`."""
    _, channels, sizes = shape
    torch.manual_seed(0)
    plain = DiffKDConnector(channels, channels, len(sizes)).to(device)
    connectors = {'plain': plain, 'connector': deepcopy(plain)}
    if checkpointing:
        connectors['connector, with_cp'] = deepcopy(plain)
        for level in connectors['connector, with_cp'].levels:
            level.with_cp = True
    if compiled:
        connectors['connector, compiled'] = deepcopy(plain)
        for level in connectors['connector, compiled'].levels:
            level.denoiser.compile(dynamic=False)
    return connectors


def measure(
    shape: tuple,
    iters: int = 10,
    device: str = 'cpu',
    checkpointing: bool = False,
    compiled: bool = False,
    clock: Callable[[], float] = time.perf_counter,
) -> list[dict]:
    """Runs all variants in turns.

    Args:
        shape (tuple): Batch, channels and level sizes, such as :data:`RETINANET`.
        iters (int): Measured passes of each variant. Defaults to 10.
        device (str): ``'cpu'`` or ``'cuda'``.
        checkpointing (bool): Also measure ``with_cp=True``. Defaults to False.
        compiled (bool): Also compile the denoisers for these sizes. Defaults to False.
        clock (Callable): What tells the seconds. Defaults to the wall clock.

    Returns:
        list[dict]: One row per variant, the plain one first.
    """
    connectors = variants(shape, device, checkpointing, compiled)
    models = {name: as_model(name, x) for name, x in connectors.items()}
    inputs = features(shape, device)

    def step(name: str) -> dict:
        return timed_step(models[name], connectors[name], inputs, device, clock)

    first = {name: step(name) for name in models}  # left out, but for what compilation costs
    steps: dict[str, list[dict]] = {name: [] for name in models}
    for _ in range(iters):
        for name in models:
            steps[name].append(step(name))
    paths = ('cpu', 'meta') if RUNS_ALL_ON_META else ('cpu',)
    operators = {path: count_operators(shape, path, checkpointing) for path in paths}
    rows = []
    for name, model in models.items():
        with saved_storages(list(connectors[name].parameters())) as storages:
            output = model(*inputs)
        del output
        ratios = [a['seconds'] / b['seconds'] for a, b in zip(steps[name], steps['plain'])]
        counts = [operators.get(path, {}).get(name) for path in ('cpu', 'meta')]
        rows.append(
            dict(
                variant=name,
                seconds=statistics.median(x['seconds'] for x in steps[name]),
                first_seconds=first[name]['seconds'],
                ratio=statistics.median(ratios),
                ratio_min=min(ratios),
                ratio_max=max(ratios),
                saved_bytes=sum(storages.values()),
                peak_bytes=steps[name][-1]['peak_bytes'],
                operators_cpu=counts[0] and counts[0].total(),
                operators_gpu=counts[1] and counts[1].total(),
            )
        )
    return rows
