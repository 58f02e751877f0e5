"""Time and peak memory of one training step of a distillation config, part by part.

    python tools/analysis_tools/benchmark.py CONFIG [--shape H W] [--batch-size N] [--json OUT]

The images are noise, the annotations made up and all weights random: nothing is downloaded, and
time and memory do not depend on them much. ``--overhead`` compares the plain student with the same
student in a distiller without points instead, ``--points`` with the same student in the config's
distiller, but for the time of the teacher, and ``--teacher`` the teacher, as deep as its taps need,
with its whole forward pass. ``--costs`` takes whole steps of the student alone, of FitNet in the
place of DiffKD, and of the config. ``--teacher-speed`` compares the teacher as it was built with
what a distillation makes of it, in float32 and with ``teacher=dict(dtype=…, compile=True)``.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from mmengine.config import Config
from rich.console import Console

from diffkd_mm.analysis import steps
from diffkd_mm.analysis.command import add_options, prepare
from diffkd_mm.analysis.step_costs import measure_costs
from diffkd_mm.analysis.tables import tabulate_costs, tabulate_step, tabulate_teacher, write_json
from diffkd_mm.analysis.teacher_speed import COMPILED, measure_teacher_speed
from diffkd_mm.errors import DistillationError
from diffkd_mm.launch import command_config


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_options(parser)
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument('--overhead', action='store_true', help='distiller without points')
    instead.add_argument('--points', action='store_true', help='what the points add to a step')
    instead.add_argument('--teacher', action='store_true', help='what the teacher is spared')
    instead.add_argument(
        '--costs', action='store_true', help="what teacher, FitNet's points and DiffKD's add"
    )
    instead.add_argument(
        '--teacher-speed',
        nargs='*',
        metavar='OPTION',
        choices=['bfloat16', 'float16', COMPILED],
        help='what makes the teacher faster: in float32 and these dtypes, and also compiled',
    )
    parser.add_argument('--json', type=Path, help='write the result to this file')
    return parser.parse_args(argv)


def measure(cfg: Config, on: steps.Conditions, args: argparse.Namespace) -> dict | list[dict]:
    """Measures what the options ask for."""
    if args.teacher_speed is not None:
        return measure_teacher_speed(cfg, on, tuple(args.teacher_speed))
    if args.costs:
        return measure_costs(cfg, on)
    if args.overhead or args.points:
        return steps.measure_overhead(cfg, on, points=args.points)
    return steps.measure_teacher(cfg, on) if args.teacher else steps.measure_phases(cfg, on)


def main(argv: Sequence[str] | None = None) -> None:
    """Measures, prints a table and writes the result."""
    args = parse_args(argv)
    cfg = command_config(args.config, args.cfg_options)
    on = prepare(cfg, args)
    try:
        result = measure(cfg, on, args)
    except DistillationError as error:
        raise SystemExit(str(error)) from error
    tabulate = tabulate_teacher if args.teacher_speed is not None else tabulate_step
    Console().print((tabulate_costs if args.costs else tabulate)(result))
    if args.json:
        of = dict(config=str(args.config), device=args.device)
        write_json(of | (result if isinstance(result, dict) else dict(rows=result)), args.json)


if __name__ == '__main__':
    main()
