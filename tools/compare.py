"""Trains configs with several seeds and compares them: one table, one picture.

Every run has its folder WORK_DIR/CONFIG/seed_SEED. Finished runs are kept, interrupted ones resume.
"""

import argparse
import signal
from collections import defaultdict
from pathlib import Path

from diffkd_mm.errors import DistillationError
from diffkd_mm.experiments.report import plot_curves, write_table
from diffkd_mm.experiments.results import summarise
from diffkd_mm.experiments.runs import plan
from diffkd_mm.experiments.training import Trainer, threads_per_job

TRAIN = Path(__file__).with_name('train.py')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('configs', nargs='+', type=Path, help='config files')
    parser.add_argument('--seeds', nargs='+', type=int, default=[0], help='default: 0')
    parser.add_argument('--work-dir', type=Path, default=Path('work_dirs/compare'))
    parser.add_argument('--metric', default='coco/bbox_mAP', help='default: coco/bbox_mAP')
    parser.add_argument('--jobs', type=int, default=1, help='trainings at a time; default: 1')
    parser.add_argument(
        '--cfg-options', nargs='+', default=[], help='key=value pairs that override every config'
    )
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    # so that `kill` and `timeout` end the trainings too
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        runs = plan(args.configs, args.seeds, args.work_dir, args.cfg_options)
        trainer = Trainer(TRAIN, args.metric, threads_per_job(args.jobs))
        succeeded = trainer.train_all(runs, args.jobs)
    except DistillationError as error:
        raise SystemExit(str(error)) from error
    except KeyboardInterrupt:
        raise SystemExit('Interrupted; the same command goes on from here.') from None

    by_config = defaultdict(list)
    for run in runs:
        by_config[run.config].append(run)
    summaries = [summarise(config, by_config[config], args.metric) for config in args.configs]
    table = write_table(summaries, args.metric, args.work_dir)
    plot_curves(summaries, args.metric, args.work_dir / 'curves.png')
    print(f'\n{table}\nWritten to {args.work_dir}: comparison.md, comparison.csv, curves.png')
    if not all(succeeded):
        raise SystemExit(f'{succeeded.count(False)} of {len(runs)} runs failed.')


if __name__ == '__main__':
    main()
