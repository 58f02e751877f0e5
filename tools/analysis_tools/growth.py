"""How time and memory of a step grow with images, levels, channels, evaluations and points.

    python tools/analysis_tools/growth.py CONFIG [--shape H W] [--batch-size N] [--out FOLDER]

CONFIG has DiffKD connectors. The images are noise, all weights random. Writes ``growth.csv`` and
``growth.png``, where everything is relative to the first setting of an axis, and beside time and
memory stand the multiply-adds of the step: where time grows slower, it is spent on something else.
``channels`` are those of an autoencoder's latent, in which the diffusion takes place then.
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from mmengine.config import DictAction
from mmengine.registry import init_default_scope
from rich.console import Console
from rich.table import Table

from diffkd_mm.analysis.growth import AXES, measure_growth
from diffkd_mm.analysis.growth_picture import draw_growth, write_growth
from diffkd_mm.analysis.steps import Conditions
from diffkd_mm.analysis.timing import Phases
from diffkd_mm.errors import DistillationError
from diffkd_mm.launch import command_config


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', type=Path, help='config file of a distillation')
    parser.add_argument('--axes', nargs='+', choices=AXES, default=AXES, help='all by default')
    parser.add_argument('--device', default='cpu', help='cpu (default) or cuda')
    parser.add_argument(
        '--shape', nargs=2, type=int, default=(800, 1216), metavar=('H', 'W'), help='image size'
    )
    parser.add_argument('--batch-size', type=int, default=1, help='images per step')
    parser.add_argument('--iters', type=int, default=5, help='measured steps of each setting')
    parser.add_argument(
        '--amp', action='store_true', help='as train.py: float16, bfloat16 on a CPU'
    )
    parser.add_argument('--threads', type=int, help="CPU threads, PyTorch's default otherwise")
    parser.add_argument(
        '--cpu-time',
        action='store_true',
        help='processor time of all threads instead of wall-clock time, for a busy machine',
    )
    parser.add_argument('--out', type=Path, default=Path('work_dirs/growth'), help='folder')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, help='override the config')
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Measures, prints a table and writes numbers and picture."""
    args = parse_args(argv)
    if args.threads:
        torch.set_num_threads(args.threads)
    if args.cpu_time:
        Phases.clock = staticmethod(time.process_time)
    torch.set_flush_denormal(True)  # as benchmark.py
    cfg = command_config(args.config, args.cfg_options)
    init_default_scope(cfg.get('default_scope', 'mmengine'))
    on = Conditions(args.device, tuple(args.shape), args.batch_size, args.amp, args.iters)
    try:
        rows = measure_growth(cfg, on, args.axes)
    except DistillationError as error:
        raise SystemExit(str(error)) from error
    table = Table('axis', 'value', 'median, s', 'stored, MB', 'peak, MB', 'MACs, G')
    for row in rows:
        peak = '–' if row['peak_bytes'] is None else f'{row["peak_bytes"] / 1e6:.0f}'
        table.add_row(
            row['axis'],
            f'{row["value"]:,}',
            f'{row["seconds"]:.4f}',
            f'{row["saved_bytes"] / 1e6:.0f}',
            peak,
            f'{row["macs"] / 1e9:.3g}',
        )
    Console().print(table)
    write_growth(rows, args.out / 'growth.csv')
    draw_growth(rows, args.out / 'growth.png')
    print(f'{args.out}/growth.csv and growth.png')


if __name__ == '__main__':
    main()
