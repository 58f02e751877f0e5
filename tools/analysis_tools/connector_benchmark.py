"""Times the DiffKD connector against a plain implementation, and weighs what both store.

    python tools/analysis_tools/connector_benchmark.py [--small] [--checkpointing] [--compile]

Forward and backward pass over random features, the plain implementation and the connector in turns
so that whatever else the machine does meets both. Without options the five FPN levels of RetinaNet
for one image of 800×1216, 256 channels.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from pathlib import Path

import torch
import torch.nn.functional as F
from benchmark import saved_storages
from diffusers import DDIMScheduler
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from diffkd_mm.connectors import DiffKDConnector
from diffkd_mm.losses import MSELoss

# Batch, channels and level sizes.
RETINANET = (1, 256, [(100, 152), (50, 76), (25, 38), (13, 19), (7, 10)])
SMALL = (16, 64, [(32, 32), (16, 16), (8, 8)])


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


def timed_step(model: Callable, connector: nn.Module, inputs: tuple, device: str) -> float:
    """Seconds of one forward and backward pass."""
    connector.zero_grad()
    for student in inputs[0]:
        student.grad = None
    _synchronize(device)
    start = time.perf_counter()
    _, loss_kd, loss_diff = model(*inputs)
    (loss_kd + loss_diff).backward()
    _synchronize(device)
    return time.perf_counter() - start


def _synchronize(device: str) -> None:
    if device != 'cpu':
        torch.cuda.synchronize()


def measure(args: argparse.Namespace) -> list[dict]:
    """Runs all variants in turns; returns one row per variant, the plain one first."""
    shape = SMALL if args.small else RETINANET
    _, channels, sizes = shape
    torch.manual_seed(0)
    plain = DiffKDConnector(channels, channels, len(sizes)).to(args.device)
    connectors = {'plain': plain, 'connector': deepcopy(plain)}
    if args.checkpointing:
        connectors['connector, with_cp'] = deepcopy(plain)
        connectors['connector, with_cp'].with_cp = True
    if args.compile:
        compiled = deepcopy(plain)
        for level in compiled.levels:
            level.denoiser.compile(dynamic=False)
        connectors['connector, compiled'] = compiled
    models = {
        name: PlainDiffKD(x) if name == 'plain' else ConnectorWithLoss(x)
        for name, x in connectors.items()
    }
    inputs = features(shape, args.device)
    first = {  # not measured, but for what compilation costs
        name: timed_step(model, connectors[name], inputs, args.device)
        for name, model in models.items()
    }
    seconds: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(args.iters):
        for name, model in models.items():
            seconds[name].append(timed_step(model, connectors[name], inputs, args.device))
    rows = []
    for name, model in models.items():
        with saved_storages(list(connectors[name].parameters())) as storages:
            output = model(*inputs)
        del output
        ratios = [a / b for a, b in zip(seconds[name], seconds['plain'])]
        rows.append(
            dict(
                variant=name,
                seconds=statistics.median(seconds[name]),
                first_seconds=first[name],
                ratio=statistics.median(ratios),
                ratio_min=min(ratios),
                ratio_max=max(ratios),
                saved_bytes=sum(storages.values()),
            )
        )
    return rows


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--small', action='store_true', help='16 images, 32², 16², 8², 64 channels')
    parser.add_argument('--checkpointing', action='store_true', help='also measure with_cp=True')
    parser.add_argument(
        '--compile', action='store_true', help='also compile the denoisers for these sizes'
    )
    parser.add_argument('--device', default='cpu', help='cpu (default) or cuda')
    parser.add_argument('--iters', type=int, default=10, help='measured passes of each variant')
    parser.add_argument('--threads', type=int, help="CPU threads, PyTorch's default otherwise")
    parser.add_argument('--json', type=Path, help='write the rows to this file')
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Measures, prints a table and writes the rows."""
    args = parse_args(argv)
    if args.threads:
        torch.set_num_threads(args.threads)
    rows = measure(args)
    table = Table('variant', 'first pass, s', 'median, s', 'ratio (min–max)', 'saved, MB')
    for row in rows:
        table.add_row(
            row['variant'],
            f'{row["first_seconds"]:.3f}',
            f'{row["seconds"]:.3f}',
            f'{row["ratio"]:.2f} ({row["ratio_min"]:.2f}–{row["ratio_max"]:.2f})',
            f'{row["saved_bytes"] / 1e6:.0f}',
        )
    Console().print(table)
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(rows, indent=2))


if __name__ == '__main__':
    main()
