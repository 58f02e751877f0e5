"""Time and peak memory of one training step of a distillation config, part by part.

    python tools/analysis_tools/benchmark.py CONFIG [--shape H W] [--batch-size N] [--json OUT]

The images are noise, the annotations made up and all weights random: nothing is downloaded, and
time and memory do not depend on them much. ``--overhead`` compares the plain student with the same
student in a distiller without points instead, ``--points`` with the same student in the config's
distiller, but for the time of the teacher, and ``--teacher`` the teacher, as deep as its taps need,
with its whole forward pass.
"""

import argparse
import json
import resource
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path

import torch
from mmengine.config import Config, DictAction
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import init_default_scope
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from diffkd_mm.distillers import Distiller

PHASES = ('teacher', 'student', 'connectors', 'losses', 'backward', 'optimizer')


class Phases:
    """Adds up time and notes the peak memory of the phases of a step.

    Args:
        device (str): ``'cpu'`` or a CUDA device. On CUDA the memory is what PyTorch has allocated,
            on the CPU the resident memory of the process, all in bytes.
    """

    clock = staticmethod(time.perf_counter)

    def __init__(self, device: str) -> None:
        self.on_cuda = torch.device(device).type == 'cuda'
        self.seconds = dict.fromkeys(PHASES, 0.0)
        self.peak_bytes = dict.fromkeys(PHASES, 0)

    @contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        """Attributes what happens in the context to a phase."""
        self._reset_peak()
        start = self._now()
        yield
        self.seconds[phase] += self._now() - start
        self.peak_bytes[phase] = max(self.peak_bytes[phase], self._peak())

    def wrap(self, owner: object, method: str, phase: str) -> None:
        """Attributes the calls of a method of an object to a phase."""
        function = getattr(owner, method)

        def timed(*args, **kwargs):
            with self(phase):
                return function(*args, **kwargs)

        setattr(owner, method, timed)

    def _now(self) -> float:
        if self.on_cuda:
            torch.cuda.synchronize()
        return self.clock()

    def _reset_peak(self) -> None:
        if self.on_cuda:
            torch.cuda.reset_peak_memory_stats()
            return
        try:
            Path('/proc/self/clear_refs').write_text('5')
        except OSError:
            pass  # then the peak is that of the process so far

    def _peak(self) -> int:
        if self.on_cuda:
            return torch.cuda.max_memory_allocated()
        try:
            lines = Path('/proc/self/status').read_text().splitlines()
            return next(int(x.split()[1]) for x in lines if x.startswith('VmHWM')) * 1024
        except (OSError, StopIteration):
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@contextmanager
def saved_storages(parameters: Sequence[Tensor]) -> Iterator[dict[int, int]]:
    """Collects what a forward pass stores for its backward pass.

    Args:
        parameters (Sequence[Tensor]): Not counted: they exist anyway.

    Yields:
        dict[int, int]: Bytes of every distinct storage by its address.
    """
    known = {x.untyped_storage().data_ptr() for x in parameters}
    storages: dict[int, int] = {}
    held = []  # so that no storage is freed and its address used again

    def pack(x: Tensor) -> Tensor:
        storage = x.untyped_storage()
        if storage.data_ptr() not in known:
            storages[storage.data_ptr()] = storage.nbytes()
            held.append(x.detach())
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        yield storages


def random_batch(student: nn.Module, batch_size: int, shape: tuple[int, int]) -> dict:
    """A batch as the student's data loader would give it: noise with made-up annotations.

    Args:
        student (nn.Module): A model of MMDetection, MMSegmentation or MMPretrain.
        batch_size (int): Number of images.
        shape (tuple[int, int]): Their height and width in pixels.

    Returns:
        dict: ``inputs`` and ``data_samples``.
    """
    package = next(
        name
        for name in (cls.__module__.split('.')[0] for cls in type(student).__mro__)
        if name in ('mmdet', 'mmseg', 'mmpretrain')
    )
    found = (getattr(module, 'num_classes', None) for module in student.modules())
    # The largest: a region proposal network has a single class.
    num_classes = max((x for x in found if isinstance(x, int)), default=2)
    if package == 'mmdet':
        from mmdet.testing import demo_mm_inputs

        return demo_mm_inputs(
            batch_size,
            [(3, *shape)] * batch_size,
            num_classes=num_classes,
            with_mask=getattr(student, 'with_mask', False),
        )
    inputs = list(torch.randint(256, (batch_size, 3, *shape), dtype=torch.uint8))
    if package == 'mmpretrain':
        from mmpretrain.structures import DataSample

        labels = torch.randint(num_classes, (batch_size,))
        return dict(
            inputs=torch.stack(inputs),
            data_samples=[DataSample().set_gt_label(label) for label in labels],
        )
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample

    labels = torch.randint(num_classes, (batch_size, 1, *shape))
    samples = [
        SegDataSample(
            gt_sem_seg=PixelData(data=label),
            metainfo=dict(img_shape=shape, ori_shape=shape, pad_shape=shape),
        )
        for label in labels
    ]
    return dict(inputs=inputs, data_samples=samples)


def build_with_random_weights(cfg: Config) -> nn.Module:
    """Builds a config's model, and the teacher of a distiller."""
    if cfg.get('data_preprocessor') and cfg.model.get('data_preprocessor') is None:
        cfg.model.data_preprocessor = cfg.data_preprocessor  # as the runner does
    model = MMENGINE_MODELS.build(cfg.model)
    if isinstance(model, Distiller) and model.teacher is not None:
        model.use_teacher(MMENGINE_MODELS.build(model.teacher.model_config()))
    return model


def build_distiller(cfg: Config, device: str) -> Distiller:
    """Builds a distiller in training mode, student and teacher with random weights."""
    distiller = build_with_random_weights(cfg)
    if not isinstance(distiller, Distiller):
        raise SystemExit('the config is not that of a distiller.')
    return distiller.to(device).train()  # the teacher takes part in every `.to`


class Step:
    """A training step.

    Args:
        model (nn.Module): A distiller or a plain student.
        cfg (Config): Gives the optimizer.
        batch (dict): What the data loader would give.
        amp (bool): Forward pass under bfloat16 autocast. Defaults to False.
    """

    def __init__(self, model: nn.Module, cfg: Config, batch: dict, amp: bool = False) -> None:
        self.model = model
        self.optim_wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
        for group in self.optim_wrapper.param_groups:
            group['lr'] = 0.0  # random weights soon diverge; a step takes as long without moving
        self.batch = batch
        self.amp = amp
        self.device = next(model.parameters()).device.type

    def forward(self) -> Tensor:
        """The sum of all losses."""
        # Preprocessing changes the samples, so they are copied.
        samples = [x.clone() for x in self.batch['data_samples']]
        with torch.autocast(self.device, torch.bfloat16, enabled=self.amp):
            data = self.model.data_preprocessor({**self.batch, 'data_samples': samples}, True)
            losses = self.model(**data, mode='loss')
            return self.model.parse_losses(losses)[0]

    def __call__(self, phases: Phases | None = None) -> float:
        """Runs the step and returns how many seconds it took."""
        phases = phases or Phases(self.device)
        start = phases._now()
        loss = self.forward()
        with phases('backward'):
            self.optim_wrapper.backward(loss)
        with phases('optimizer'):
            self.optim_wrapper.step()
            self.optim_wrapper.zero_grad()
        return phases._now() - start


def measure_phases(cfg: Config, args: argparse.Namespace) -> dict:
    """Runs a few steps and returns the medians, in seconds and bytes."""
    distiller = build_distiller(cfg, args.device)
    batch = random_batch(distiller.student, args.batch_size, tuple(args.shape))
    step = Step(distiller, cfg, batch, args.amp)
    step()  # first calls allocate and choose kernels
    with saved_storages(list(distiller.parameters())) as storages:
        step.forward()
    phases = Phases(args.device)
    phases.wrap(distiller, 'run_teacher', 'teacher')
    phases.wrap(distiller.student, 'forward', 'student')
    for point in distiller.distillation.values():
        phases.wrap(point.loss, 'forward', 'losses')
        if point.connector is not None:
            phases.wrap(point.connector, 'forward', 'connectors')
    totals, parts = [], []
    for _ in range(args.iters):
        phases.seconds = dict.fromkeys(PHASES, 0.0)
        totals.append(step(phases))
        parts.append(phases.seconds)
    seconds = {phase: statistics.median(x[phase] for x in parts) for phase in PHASES}
    return dict(
        config=str(args.config),
        device=args.device,
        shape=list(args.shape),
        batch_size=args.batch_size,
        amp=args.amp,
        seconds=dict(seconds, step=statistics.median(totals)),
        peak_bytes=dict(phases.peak_bytes, step=max(phases.peak_bytes.values())),
        saved_bytes=sum(storages.values()),
    )


def measure_overhead(cfg: Config, args: argparse.Namespace) -> dict:
    """Steps of the plain student and of the same student in a distiller, in turns.

    With ``--overhead`` the distiller has no points; with ``--points`` it has them, and what its
    teacher takes does not count.
    """
    if args.overhead:
        cfg.model.pop('teacher', None)
        cfg.model.pop('points', None)
    distiller = build_distiller(cfg, args.device)
    plain = deepcopy(distiller.student)
    batch = random_batch(plain, args.batch_size, tuple(args.shape))
    steps = [Step(model, cfg, batch, args.amp) for model in (plain, distiller)]
    phases = Phases(args.device)
    phases.wrap(distiller, 'run_teacher', 'teacher')
    for step in steps:
        step()
    # The order alternates, in case the first of two does better or worse.
    seconds: list[list[float]] = [[], []]
    for i in range(args.iters):
        for which in (0, 1) if i % 2 == 0 else (1, 0):
            phases.seconds['teacher'] = 0.0
            seconds[which].append(steps[which]() - phases.seconds['teacher'])
    ratios = [wrapped / alone for alone, wrapped in zip(*seconds)]
    return dict(
        config=str(args.config),
        device=args.device,
        student_seconds=statistics.median(seconds[0]),
        distiller_seconds=statistics.median(seconds[1]),
        ratio=statistics.median(ratios),
        ratio_min=min(ratios),
        ratio_max=max(ratios),
    )


def measure_teacher(cfg: Config, args: argparse.Namespace) -> dict:
    """The teacher as a step runs it and its whole forward pass, in turns, and the whole step.

    The whole pass is MMEngine's ``mode='tensor'``: of a two-stage detector with its proposals, of a
    cascade with all its stages.
    """
    distiller = build_distiller(cfg, args.device)
    batch = random_batch(distiller.student, args.batch_size, tuple(args.shape))
    step, phases = Step(distiller, cfg, batch, args.amp), Phases(args.device)
    phases.wrap(distiller, 'run_teacher', 'teacher')
    samples = [x.clone() for x in batch['data_samples']]
    data = distiller.data_preprocessor({**batch, 'data_samples': samples}, True)

    @torch.no_grad()
    def whole() -> float:
        start = phases._now()
        with torch.autocast(args.device, torch.bfloat16, enabled=args.amp):
            distiller.teacher.model(**data, mode='tensor')
        return phases._now() - start

    step()
    whole()
    seconds: dict[str, list[float]] = dict(teacher=[], whole=[], step=[])
    for _ in range(args.iters):
        phases.seconds['teacher'] = 0.0
        seconds['step'].append(step())
        seconds['teacher'].append(phases.seconds['teacher'])
        seconds['whole'].append(whole())
    ratios = [tapped / all_of_it for tapped, all_of_it in zip(seconds['teacher'], seconds['whole'])]
    shares = [tapped / total for tapped, total in zip(seconds['teacher'], seconds['step'])]
    return dict(
        config=str(args.config),
        device=args.device,
        teacher_seconds=statistics.median(seconds['teacher']),
        whole_seconds=statistics.median(seconds['whole']),
        teacher_ratio=statistics.median(ratios),
        teacher_ratio_min=min(ratios),
        teacher_ratio_max=max(ratios),
        teacher_share=statistics.median(shares),
    )


def tabulate(result: dict) -> Table:
    """The result as a table."""
    if 'teacher_ratio' in result:
        table = Table('teacher, s', 'its whole pass, s', 'ratio (min–max)', 'share of the step, %')
        table.add_row(
            f'{result["teacher_seconds"]:.4f}',
            f'{result["whole_seconds"]:.4f}',
            f'{result["teacher_ratio"]:.3f} '
            f'({result["teacher_ratio_min"]:.3f}–{result["teacher_ratio_max"]:.3f})',
            f'{100 * result["teacher_share"]:.0f}',
        )
        return table
    if 'ratio' in result:
        table = Table('student, s', 'in a distiller, s', 'ratio (min–max)')
        table.add_row(
            f'{result["student_seconds"]:.4f}',
            f'{result["distiller_seconds"]:.4f}',
            f'{result["ratio"]:.3f} ({result["ratio_min"]:.3f}–{result["ratio_max"]:.3f})',
        )
        return table
    seconds, peaks = result['seconds'], result['peak_bytes']
    table = Table(
        'part',
        'median, s',
        '%',
        'peak, MB',
        caption=f'saved for the backward pass: {result["saved_bytes"] / 1e6:.0f} MB',
    )
    for phase in (*PHASES, 'step'):
        share = 100 * seconds[phase] / seconds['step']
        table.add_row(phase, f'{seconds[phase]:.4f}', f'{share:.0f}', f'{peaks[phase] / 1e6:.0f}')
    return table


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', type=Path, help='config file of a distillation')
    parser.add_argument('--device', default='cpu', help='cpu (default) or cuda')
    parser.add_argument(
        '--shape', nargs=2, type=int, default=(800, 1216), metavar=('H', 'W'), help='image size'
    )
    parser.add_argument('--batch-size', type=int, default=1, help='images per step')
    parser.add_argument('--iters', type=int, default=5, help='measured steps')
    parser.add_argument('--amp', action='store_true', help='bfloat16 autocast')
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument('--overhead', action='store_true', help='distiller without points')
    instead.add_argument('--points', action='store_true', help='what the points add to a step')
    instead.add_argument('--teacher', action='store_true', help='what the teacher is spared')
    parser.add_argument('--threads', type=int, help="CPU threads, PyTorch's default otherwise")
    parser.add_argument(
        '--cpu-time',
        action='store_true',
        help='processor time of all threads instead of wall-clock time, for a busy machine',
    )
    parser.add_argument('--json', type=Path, help='write the result to this file')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, help='override the config')
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Measures, prints a table and writes the result."""
    args = parse_args(argv)
    if args.threads:
        torch.set_num_threads(args.threads)
    if args.cpu_time:
        Phases.clock = staticmethod(time.process_time)
    # Random weights make some activations so small that the CPU computes them slowly.
    torch.set_flush_denormal(True)
    cfg = Config.fromfile(args.config)
    if args.cfg_options:
        cfg.merge_from_dict(args.cfg_options)
    preprocessor = cfg.model.get('student', {}).get('data_preprocessor') or {}
    if preprocessor.get('size'):  # a segmentor pads to the crop of its config
        preprocessor.size = tuple(args.shape)
    init_default_scope(cfg.get('default_scope', 'mmengine'))
    measure: Callable = measure_phases
    if args.overhead or args.points:
        measure = measure_overhead
    elif args.teacher:
        measure = measure_teacher
    result = measure(cfg, args)
    Console().print(tabulate(result))
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(result, indent=2))


if __name__ == '__main__':
    main()
