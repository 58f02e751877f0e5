"""Trains configs with several seeds and compares them: tables, pictures, a record of all runs.

    python tools/compare.py CONFIG... --seeds 0 1 2

Every run has its folder WORK_DIR/CONFIG/seed_SEED. Finished runs are kept, interrupted ones resume.
With ``--grid KEY=VALUE,VALUE,...`` every config is trained at every value, in
WORK_DIR/CONFIG/KEY=VALUE/seed_SEED, where KEY is the last part of the dotted key. With
``--tune-seeds`` the grid is trained with these seeds, the value with the best mean validation is
picked for each config, and ``--seeds`` are trained at it, with ``--report-options`` if there are
any, such as to train on the images that were kept for tuning as well.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from diffkd_mm.compat import own_config
from diffkd_mm.experiments import plots, report
from diffkd_mm.experiments.checks import check_plan
from diffkd_mm.experiments.command import run_command
from diffkd_mm.experiments.launching import Launcher
from diffkd_mm.experiments.results import summarise
from diffkd_mm.experiments.runs import Arm, group_by_option, override, parse_grid, plan, plan_arms
from diffkd_mm.experiments.study import contrast, find, pick, tunable
from diffkd_mm.experiments.training import Trainer, threads_per_job
from diffkd_mm.tabular import write_csv

TOOLS = Path(__file__).parent


def positive(text: str) -> int:
    """A whole number above zero."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f'{text} is not a number of 1 or more')
    return int(text)


def config_file(text: str) -> Path:
    """A config's path, also if it is given as ``diffkd_mm::path``."""
    return Path(own_config(text))


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('configs', nargs='+', type=config_file, help='config files')
    parser.add_argument('--seeds', nargs='+', type=int, default=[0], help='default: 0')
    parser.add_argument('--work-dir', type=Path, default=Path('work_dirs/compare'))
    parser.add_argument('--metric', default='coco/bbox_mAP', help='default: coco/bbox_mAP')
    parser.add_argument('--jobs', type=positive, default=1, help='trainings at a time; default: 1')
    parser.add_argument(
        '--cfg-options', nargs='+', default=[], help='key=value pairs that override every config'
    )
    parser.add_argument(
        '--grid',
        action='append',
        default=[],
        metavar='KEY=VALUE,...',
        help='train at each of these values; configs without a place for the key are trained once',
    )
    parser.add_argument(
        '--tune-seeds', nargs='+', type=int, default=[], help='seeds to pick from the grid by'
    )
    parser.add_argument(
        '--report-options',
        nargs='+',
        default=[],
        help='with --tune-seeds: key=value pairs that override every config once it is tuned',
    )
    parser.add_argument(
        '--report-split',
        choices=['val', 'test'],
        default='val',
        help="test: evaluate the last checkpoints on the config's test_dataloader; default: val",
    )
    parser.add_argument(
        '--contrast',
        nargs=2,
        action='append',
        default=[],
        metavar=('A', 'B'),
        help='print A − B, paired by seed; names of configs, or of rows of the table',
    )
    parser.add_argument(
        '--against',
        metavar='KEY',
        help='draw the metric over the values that the configs have at this dotted key',
    )
    parser.add_argument('--relative-to', metavar='A', help='the row whose s/iteration is 1')
    args = parser.parse_args(argv)
    for option, seeds in (('--seeds', args.seeds), ('--tune-seeds', args.tune_seeds)):
        if twice := sorted({seed for seed in seeds if seeds.count(seed) > 1}):
            parser.error(f'{option} names {", ".join(map(str, twice))} more than once')
    if args.tune_seeds and args.against:
        parser.error('--against draws all values of a --grid; --tune-seeds picks one')
    if args.tune_seeds and not args.grid:
        parser.error('--tune-seeds picks from a --grid; there is none')
    if args.report_options and not args.tune_seeds:
        parser.error('--report-options are for what --tune-seeds has picked; there are none')
    if both := sorted(set(args.seeds) & set(args.tune_seeds)):
        parser.error(
            f'--seeds and --tune-seeds share {", ".join(map(str, both))}: results of seeds that '
            'the value was picked by would be too good'
        )
    return args


def compare(args: argparse.Namespace, trainer: Trainer) -> list[bool]:
    """Trains and reports. Returns of each run whether it succeeded."""
    arms = plan_arms(args.configs, args.cfg_options, parse_grid(args.grid))
    reported = override(arms, args.report_options)
    check_plan(reported, args.metric, args.report_split, tuned=bool(args.tune_seeds))
    rows = list({arm.config: arm for arm in arms}.values()) if args.tune_seeds else arms
    for option, name in [
        *(('--contrast', name) for pair in args.contrast for name in pair),
        *([('--relative-to', args.relative_to)] if args.relative_to else []),
    ]:
        find(rows, name, option)
    if args.against:
        group_by_option(arms, args.against)  # a mistake shows before hours of training

    tuning, succeeded = [], []
    if args.tune_seeds:
        runs = plan(tunable(arms), args.tune_seeds, args.work_dir)
        succeeded += trainer.run_all(runs, args.jobs)
        tuning = summarise(tunable(arms), runs, args.metric)
        arms = override(pick(arms, tuning), args.report_options)
        print(f'Picked: {", ".join(arm.name for arm in arms)}', flush=True)
    runs = plan(arms, args.seeds, args.work_dir)
    succeeded += trainer.run_all(runs, args.jobs, args.report_split)
    write(args, arms, summarise(arms, runs, args.metric, args.report_split), tuning)
    return succeeded


def write(args: argparse.Namespace, arms: list[Arm], summaries: list, tuning: list) -> None:
    """Writes and prints what was found."""
    metric, split, folder = args.metric, args.report_split, args.work_dir
    contrasts = [contrast(summaries, *names, split) for names in args.contrast]
    reference = None
    if args.relative_to:
        reference = summaries[arms.index(find(arms, args.relative_to, '--relative-to'))]
    text = report.arms_table(summaries, metric, split, reference)
    if contrasts:
        text += f'\nDifferences on the {report.LABELS[split]} split, paired by seed:\n\n'
        text += report.contrasts_table(contrasts)
    if tuning:
        text += '\nThe grid, and in bold what was picked:\n\n'
        text += report.tuning_table(tuning, [arm.name for arm in arms], metric)
    write_csv(folder / 'comparison.csv', report.arm_rows(summaries, metric, split))
    write_csv(folder / 'runs.csv', report.run_rows([*tuning, *summaries], metric))
    files = ['comparison.md', 'comparison.csv', 'runs.csv', 'curves.png', 'arms.png']
    if contrasts:
        rows = report.contrast_rows(contrasts, metric, split)
        write_csv(folder / 'contrasts.csv', rows)
        files.append('contrasts.csv')
    if args.against:
        plots.plot_against(summaries, args.against, metric, split, folder / 'against.png')
        files.append('against.png')
    (folder / 'comparison.md').write_text(text)
    plots.plot_curves(summaries, metric, folder / 'curves.png')
    plots.plot_intervals(summaries, contrasts, metric, split, folder / 'arms.png')
    print(f'\n{text}\nWritten to {folder}: {", ".join(files)}')


def main(argv: Sequence[str] | None = None) -> None:
    """Compares, and ends with a status that says whether all runs succeeded."""
    args = parse_args(argv)
    trainer = Trainer(Launcher(TOOLS), args.metric, threads_per_job(args.jobs))
    run_command(lambda: compare(args, trainer))


if __name__ == '__main__':
    main()
