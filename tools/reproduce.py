"""A table of the paper beside what was trained here; with --run, trains what is missing.

    python tools/reproduce.py --table 4

Finished runs are found in WORK_DIR/CONFIG/seed_SEED, where --run puts them, and, for a single seed,
in WORK_DIR/CONFIG, where tools/train.py does. Interrupted runs resume.
"""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from compare import positive

from diffkd_mm.errors import DistillationError
from diffkd_mm.experiments.checks import check_plan
from diffkd_mm.experiments.command import run_command
from diffkd_mm.experiments.launching import ParallelLauncher
from diffkd_mm.experiments.paper_tables import PaperTable, read_table, table_names
from diffkd_mm.experiments.reproduction import (
    Outcome,
    csv_rows,
    finished,
    plan_row,
    read_outcome,
    table_text,
)
from diffkd_mm.experiments.training import Trainer, threads_per_job
from diffkd_mm.tabular import write_csv

ROOT = Path(os.path.relpath(Path(__file__).parents[1]))  # short in the commands that are printed
TOOLS = ROOT / 'tools'


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--table', required=True, choices=table_names(ROOT))
    parser.add_argument(
        '--only',
        nargs='+',
        default=[],
        metavar='CONFIG',
        help='names of configs; default: all rows',
    )
    parser.add_argument('--seeds', nargs='+', type=int, default=[0], help='default: 0')
    parser.add_argument('--work-dir', type=Path, default=Path('work_dirs'))
    parser.add_argument('--out', type=Path, help='folder for table_TABLE.md and .csv')
    parser.add_argument(
        '--cfg-options', nargs='+', default=[], help='key=value pairs that override every config'
    )
    parser.add_argument('--run', action='store_true', help='train what is missing')
    parser.add_argument(
        '--gpus', type=positive, help='the batch in total is kept; default: as the configs say'
    )
    parser.add_argument('--slurm', metavar='PARTITION', help='run through tools/slurm_train.sh')
    parser.add_argument('--jobs', type=positive, default=1, help='Slurm jobs at a time; default: 1')
    args = parser.parse_args(argv)
    if args.jobs > 1 and not args.slurm:
        parser.error('--jobs is for --slurm; on this machine one run has all GPUs')
    if len(set(args.seeds)) < len(args.seeds):
        parser.error('--seeds names a seed more than once')
    return args


def choose_rows(table: PaperTable, names: list[str]) -> None:
    """Keeps the rows of the given configs.

    Raises:
        DistillationError: If the table has no such row.
    """
    known = [row.name for row in table.rows]
    for name in names:
        if name not in known:
            raise DistillationError(f'--only {name}: table {table.name} has {", ".join(known)}.')
    table.rows = [row for row in table.rows if not names or row.name in names]


def reproduce(args: argparse.Namespace) -> list[bool]:
    """Trains if asked to, and reports. Returns of each run that it trained whether it succeeded."""
    table = read_table(ROOT, args.table)
    choose_rows(table, args.only)
    launcher = ParallelLauncher(TOOLS, args.gpus, args.slurm)
    runs = {
        row.name: plan_row(row, args.cfg_options, args.seeds, args.work_dir) for row in table.rows
    }
    succeeded = []
    if args.run:
        by_seed = [run for of_seed in zip(*runs.values()) for run in of_seed]
        missing = [run for run in by_seed if not finished(run, table)]
        check_plan(list({run.arm: run.arm for run in missing}), table.metric, 'val', tuned=False)
        for run in missing:
            launcher.check(run)
        trainer = Trainer(launcher, table.metric, threads_per_process(args, launcher, missing))
        try:
            succeeded = trainer.run_all(missing, args.jobs)
        finally:
            report(args, table, runs, launcher)
    else:
        report(args, table, runs, launcher)
    return succeeded


def threads_per_process(args: argparse.Namespace, launcher: ParallelLauncher, runs: list) -> int:
    """All cores for a run in one process of this machine; else one, or ``OMP_NUM_THREADS``."""
    if args.slurm or any(launcher.processes(run) > 1 for run in runs):
        return int(os.environ.get('OMP_NUM_THREADS', 1))
    return threads_per_job(1)


def report(
    args: argparse.Namespace, table: PaperTable, runs: dict, launcher: ParallelLauncher
) -> None:
    """Writes and prints the table."""
    outcomes: list[Outcome] = [read_outcome(table, row, runs[row.name]) for row in table.rows]
    text = table_text(table, outcomes, launcher)
    folder = args.out or args.work_dir
    path = folder / f'table_{args.table}.csv'
    write_csv(path, csv_rows(table, outcomes, launcher))
    path.with_suffix('.md').write_text(text, encoding='utf-8')
    print(f'\n{text}\nWritten to {folder}: table_{args.table}.md, {path.name}')


def main(argv: Sequence[str] | None = None) -> None:
    """Reports, and ends with a status that says whether all runs of --run succeeded."""
    args = parse_args(argv)
    run_command(lambda: reproduce(args))


if __name__ == '__main__':
    main()
