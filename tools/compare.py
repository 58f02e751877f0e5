"""Trains configs with several seeds and compares them: one table, one picture.

Every run has its folder WORK_DIR/CONFIG/seed_SEED. Finished runs are kept, interrupted ones resume.
"""

import argparse
import csv
import hashlib
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import matplotlib

matplotlib.use('Agg')

import matplotlib.pyplot as plt
from mmengine.config import Config, DictAction
from mmengine.registry import MODELS, init_default_scope

from diffkd_mm.distillers.teacher import load_config

TRAIN = Path(__file__).with_name('train.py')
# Prefixes of MMDetection's metrics, which are fractions; those of the other packages are percent.
FRACTIONS = ('coco/', 'lvis/', 'pascal_voc/', 'openimages/', 'crowd_human/')
FINISHED, STARTED = 'finished.json', 'started.json'
TRAININGS: list[subprocess.Popen] = []  # to be ended with this process


@dataclass
class Run:
    """One training.

    Attributes:
        config (Path): Config file.
        seed (int): Random seed.
        folder (Path): Its work dir.
        fingerprint (str): Hash of the resolved config, by which a change of it is noticed.
    """

    config: Path
    seed: int
    folder: Path
    fingerprint: str = field(repr=False)

    @property
    def name(self) -> str:
        return f'{self.config.stem} seed {self.seed}'

    def state(self, file: str) -> dict:
        path = self.folder / file
        return json.loads(path.read_text()) if path.exists() else {}

    @property
    def finished(self) -> bool:
        return self.state(FINISHED).get('fingerprint') == self.fingerprint

    def mark(self, file: str) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / file).write_text(json.dumps(dict(fingerprint=self.fingerprint)))


@dataclass
class Summary:
    """What is known of a config after its runs.

    Attributes:
        name (str): The config's name.
        seeds (list[int]): Seeds of the finished runs.
        curves (list[dict[int, float]]): Metric by epoch (or iteration), one per finished run.
        parameters (float): Parameters of the tested model, in millions.
        seconds (float): Median time of a training iteration, in seconds.
        missing (list[int]): Seeds whose run failed or logged no such metric.
    """

    name: str
    seeds: list[int]
    curves: list[dict[int, float]]
    parameters: float
    seconds: float
    missing: list[int]

    @property
    def final(self) -> list[float]:
        return [curve[max(curve)] for curve in self.curves]

    @property
    def best(self) -> list[float]:
        return [max(curve.values()) for curve in self.curves]


def resolve(config: Path, options: dict) -> Config:
    cfg = Config.fromfile(config)
    cfg.merge_from_dict(options)
    return cfg


def fingerprint(cfg: Config) -> str:
    """Hash of what decides a run but its seed: the config, the teacher's, and loaded weights."""
    digest = hashlib.sha256(cfg.pretty_text.encode())
    teacher = cfg.get('model', {}).get('teacher') or {}
    if 'config' in teacher:
        digest.update(load_config(teacher['config']).pretty_text.encode())
    for checkpoint in (teacher.get('checkpoint'), cfg.get('load_from')):
        if checkpoint and Path(checkpoint).is_file():
            digest.update(hashlib.sha256(Path(checkpoint).read_bytes()).digest())
    return digest.hexdigest()


def plan(configs: list[Path], seeds: list[int], work_dir: Path, options: dict) -> list[Run]:
    """All runs, seed by seed, so that a first table is complete early."""
    stems = [config.stem for config in configs]
    if len(set(stems)) < len(stems):
        raise SystemExit(f'Two configs of one name: {", ".join(stems)}.')
    prints = {config: fingerprint(resolve(config, options)) for config in configs}
    return [
        Run(config, seed, work_dir / config.stem / f'seed_{seed}', prints[config])
        for seed in seeds
        for config in configs
    ]


def set_aside_if_outdated(run: Run) -> None:
    """Moves the folder of a run whose config has changed since out of the way."""
    before = run.state(FINISHED) or run.state(STARTED)
    if before and before['fingerprint'] != run.fingerprint:
        target = run.folder.with_name(f'{run.folder.name}.{time.strftime("%Y%m%d-%H%M%S")}')
        run.folder.rename(target)
        print(f'{run.name}: the config has changed; the old run is now {target}', flush=True)


_TRAIN_LINE = re.compile(
    r'(?:Epoch|Iter)\(train\)\s+(?P<where>.*?)\s+(?:base_)?lr:.*?eta: (?P<eta>\S+( days?, \S+)?)'
)
_VAL_LINE = re.compile(r'(?:Epoch|Iter)\(val\)')


def progress(line: str, metric: str) -> str | None:
    """What a line of the training log is worth telling, if anything."""
    if match := _TRAIN_LINE.search(line):
        loss = re.search(r' loss: ([\d.naif+-]+)', line)
        return f'{match["where"]}  eta {match["eta"]}' + (f'  loss {loss[1]}' if loss else '')
    if _VAL_LINE.search(line) and (match := re.search(rf'{re.escape(metric)}: ([\d.-]+)', line)):
        return f'evaluated: {metric} {match[1]}'
    return None


def execute(run: Run, label: str, metric: str, threads: int, options: list[str]) -> bool:
    """Trains, and tells how far it is. Returns whether it succeeded."""
    if run.finished:
        print(f'{label} {run.name}: finished before', flush=True)
        return True
    set_aside_if_outdated(run)
    run.mark(STARTED)
    command = [sys.executable, str(TRAIN), str(run.config), '--work-dir', str(run.folder)]
    command += ['--resume', '--cfg-options', f'randomness.seed={run.seed}', *options]
    env = {**os.environ, 'OMP_NUM_THREADS': str(threads), 'PYTHONUNBUFFERED': '1'}
    log = run.folder / 'train.log'
    with (
        log.open('a', buffering=1) as file,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env
        ) as process,
    ):
        TRAININGS.append(process)
        for line in process.stdout:
            file.write(line)
            if message := progress(line, metric):
                print(f'{label} {run.name}: {message}', flush=True)
    if process.returncode == 0:
        run.mark(FINISHED)
        return True
    tail = ''.join(log.read_text().splitlines(keepends=True)[-15:])
    print(f'{label} {run.name}: FAILED, see {log}\n{tail}', flush=True)
    return False


def read_scalars(folder: Path) -> list[dict]:
    """The logged scalars of a run; those of a resumed part replace what they repeat."""
    by_step = {}
    for file in sorted(folder.glob('*/vis_data/scalars.json')):
        trained = 0
        for line in file.read_text().splitlines():
            entry = json.loads(line)
            if 'loss' in entry:
                trained = entry['step']
            elif entry['step'] == 0:
                # MMEngine's default dates a validation by the epoch, which a training that counts
                # iterations never leaves: the last logged iteration is the next best.
                entry['step'] = trained
            by_step['loss' in entry, entry['step']] = entry
    return list(by_step.values())


def student_parameters(cfg: Config) -> float:
    """Millions of parameters of the model that is tested."""
    init_default_scope(cfg.get('default_scope', 'mmdet'))
    model_cfg = cfg.model.copy()
    if 'data_preprocessor' in cfg:
        model_cfg.setdefault('data_preprocessor', cfg.data_preprocessor)
    model = MODELS.build(model_cfg)
    return sum(p.numel() for p in getattr(model, 'student', model).parameters()) / 1e6


def summarise(config: Path, runs: list[Run], metric: str, options: dict) -> Summary:
    """Reads the logs of a config's runs."""
    seeds, curves, times, missing = [], [], [], []
    for run in runs:
        scalars = read_scalars(run.folder)
        curve = {entry['step']: entry[metric] for entry in scalars if metric in entry}
        if not run.finished or not curve:
            missing.append(run.seed)
            continue
        seeds.append(run.seed)
        curves.append(curve)
        times += [entry['time'] for entry in scalars if 'loss' in entry][1:]  # the first warms up
    return Summary(
        name=config.stem,
        seeds=seeds,
        curves=curves,
        parameters=student_parameters(resolve(config, options)),
        seconds=statistics.median(times) if times else float('nan'),
        missing=missing,
    )


def percent(values: list[float], metric: str) -> list[float]:
    return [100 * value if metric.startswith(FRACTIONS) else value for value in values]


def mean_and_deviation(values: list[float]) -> str:
    if not values:
        return '–'
    mean = f'{statistics.mean(values):.2f}'
    return mean + (f' ± {statistics.stdev(values):.2f}' if len(values) > 1 else '')


def write_table(summaries: list[Summary], metric: str, folder: Path) -> str:
    """Writes ``comparison.md`` and ``comparison.csv``; returns the Markdown.

    Metrics are in percent, with the sample standard deviation over the seeds. The CSV adds the
    final metric of every seed.
    """
    head = ['config', f'{metric} (%)', 'best (%)', 'seeds', 'parameters (M)', 's/iteration']
    lines = [f'| {" | ".join(head)} |', '|' + '---|' * len(head)]
    rows = []
    for summary in summaries:
        final, best = percent(summary.final, metric), percent(summary.best, metric)
        seeds = f'{len(final)}' + (
            f' (missing: {", ".join(map(str, summary.missing))})' if summary.missing else ''
        )
        cells = [
            summary.name,
            mean_and_deviation(final),
            mean_and_deviation(best),
            seeds,
            f'{summary.parameters:.2f}',
            f'{summary.seconds:.3f}' if final else '–',
        ]
        lines.append(f'| {" | ".join(cells)} |')
        rows.append(
            dict(
                config=summary.name,
                metric=metric,
                mean=statistics.mean(final) if final else None,
                deviation=statistics.stdev(final) if len(final) > 1 else None,
                best_mean=statistics.mean(best) if best else None,
                seeds=len(final),
                missing=' '.join(map(str, summary.missing)),
                parameters_m=summary.parameters,
                seconds_per_iteration=summary.seconds,
                **{f'seed_{seed}': x for seed, x in zip(summary.seeds, final, strict=True)},
            )
        )
    table = '\n'.join(lines) + '\n'
    folder.mkdir(parents=True, exist_ok=True)
    (folder / 'comparison.md').write_text(table)
    with (folder / 'comparison.csv').open('w', newline='') as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(key for row in rows for key in row)))
        writer.writeheader()
        writer.writerows(rows)
    return table


def plot_curves(summaries: list[Summary], metric: str, path: Path) -> None:
    """Draws the metric over the epochs: the mean over seeds, and the range as a band."""
    figure, axis = plt.subplots(figsize=(7, 4.5))
    for summary in summaries:
        if not summary.curves:
            continue
        steps = sorted(set.intersection(*(set(curve) for curve in summary.curves)))
        values = [percent([curve[step] for curve in summary.curves], metric) for step in steps]
        (line,) = axis.plot(
            steps, [statistics.mean(v) for v in values], 'o-', ms=3, label=summary.name
        )
        if len(summary.curves) > 1:
            low, high = [min(v) for v in values], [max(v) for v in values]
            axis.fill_between(steps, low, high, color=line.get_color(), alpha=0.15)
    axis.set_xlabel('epoch (or iteration)')
    axis.set_ylabel(f'{metric} (%)')
    axis.grid(alpha=0.3)
    if any(summary.curves for summary in summaries):
        axis.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=150)
    plt.close(figure)


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
    options = parse_options(args.cfg_options)
    runs = plan(args.configs, args.seeds, args.work_dir, options)
    threads = max(len(os.sched_getaffinity(0)) // args.jobs, 1)
    # fewer if the user says so, more never: runs side by side would fight for the cores
    threads = min(threads, int(os.environ.get('OMP_NUM_THREADS', threads)))
    with ThreadPoolExecutor(args.jobs) as pool:
        futures = [
            pool.submit(execute, run, f'[{i}/{len(runs)}]', args.metric, threads, args.cfg_options)
            for i, run in enumerate(runs, 1)
        ]
        try:
            succeeded = [future.result() for future in futures]
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)  # or the next runs would start now
            for training in TRAININGS:
                training.terminate()
            raise SystemExit('Interrupted; the same command goes on from here.') from None

    by_config = defaultdict(list)
    for run in runs:
        by_config[run.config].append(run)
    summaries = [summarise(c, by_config[c], args.metric, options) for c in args.configs]
    table = write_table(summaries, args.metric, args.work_dir)
    plot_curves(summaries, args.metric, args.work_dir / 'curves.png')
    print(f'\n{table}\nWritten to {args.work_dir}: comparison.md, comparison.csv, curves.png')
    if not all(succeeded):
        raise SystemExit(f'{succeeded.count(False)} of {len(runs)} runs failed.')


def parse_options(pairs: list[str]) -> dict:
    """Reads key=value pairs as ``--cfg-options`` of tools/train.py does."""
    parser = argparse.ArgumentParser()
    parser.add_argument('--cfg-options', nargs='*', action=DictAction, default={})
    return parser.parse_args(['--cfg-options', *pairs]).cfg_options


if __name__ == '__main__':
    main()
