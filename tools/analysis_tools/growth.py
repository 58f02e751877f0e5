"""How time and memory of a step grow with images, levels, channels, evaluations and points.

    python tools/analysis_tools/growth.py CONFIG [--shape H W] [--batch-size N] [--out FOLDER]

CONFIG has DiffKD connectors. The images are noise, all weights random. Writes ``growth.csv`` and
``growth.png``, where everything is relative to the first setting of an axis, and beside time and
memory stand the multiply-adds of the step: where time grows slower, it is spent on something else.
``channels`` are those of an autoencoder's latent, in which the diffusion takes place then.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from diffkd_mm.analysis.command import add_options, prepare
from diffkd_mm.analysis.growth import AXES, measure_growth
from diffkd_mm.analysis.growth_picture import draw_growth
from diffkd_mm.errors import DistillationError
from diffkd_mm.launch import command_config
from diffkd_mm.tabular import write_csv


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_options(parser)
    parser.add_argument('--axes', nargs='+', choices=AXES, default=AXES, help='all by default')
    parser.add_argument('--out', type=Path, default=Path('work_dirs/growth'), help='folder')
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Measures, prints a table and writes numbers and picture."""
    args = parse_args(argv)
    cfg = command_config(args.config, args.cfg_options)
    on = prepare(cfg, args)
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
    write_csv(args.out / 'growth.csv', rows)
    draw_growth(rows, args.out / 'growth.png')
    print(f'{args.out}/growth.csv and growth.png')


if __name__ == '__main__':
    main()
