"""Checks all that a GPU changes, and measures a step, in one report: ``make gpu-check``.

    python tools/gpu_check.py [--out work_dirs/gpu_check.md]

It runs the tests marked ``cuda`` (``tests/test_cuda``) and the benchmarks. Nothing is downloaded:
the images are digits and noise, the weights of the large networks random. The report is
written anew after each part, so one that is cut short says as far as it came.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from diffkd_mm.analysis.check_report import (
    benchmark_rows,
    machine,
    read_outcomes,
    summarize,
    table,
)

ROOT = Path(__file__).resolve().parents[1]
STEP = ['benchmark.py', 'configs/retinanet_r50_x101_diffkd.py', '--batch-size', '2']
# Title and command of each, in tools/analysis_tools.
BENCHMARKS = {
    'A step of `retinanet_r50_x101_diffkd.py`, two images of 800×1216, float32': STEP,
    'The same with `--amp`: float16 with loss scaling': [*STEP, '--amp'],
    'The student alone, FitNet and DiffKD': [*STEP, '--costs'],
    'The same on the digits, 16 images of 96×96': [
        *('benchmark.py', 'configs/demo/retinanet_digits_diffkd.py', '--costs'),
        *('--shape', '96', '96', '--batch-size', '16'),
    ],
    'The teacher as it was built, and as a distillation runs it': [
        *STEP,
        *('--teacher-speed', 'bfloat16', 'float16'),
    ],
    'The connector on the levels of one image of 800×1216': [
        'connector_benchmark.py',
        '--checkpointing',
    ],
    'The connector on 16 small images': ['connector_benchmark.py', '--checkpointing', '--small'],
}


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--out', type=Path, default=Path('work_dirs/gpu_check.md'))
    parser.add_argument(
        '--device', choices=['cuda', 'cpu'], default='cuda', help='cpu to try the command itself'
    )
    parser.add_argument('--jobs', type=int, default=4, help='processes of the tests at a time')
    parser.add_argument('--iters', type=int, default=10, help='measured steps of each benchmark')
    parser.add_argument('--only', choices=['tests', 'benchmarks'], help='one of the two parts')
    parser.add_argument('-k', dest='expression', help='tests whose names match, as of pytest')
    return parser.parse_args(argv)


def run(command: Sequence[str], seconds: int, processes: int = 1) -> subprocess.CompletedProcess:
    """Runs a command of Python in the repository; what is printed is shown, and kept."""
    threads = min(16, os.cpu_count() or 1) // processes
    env = {'OMP_NUM_THREADS': str(max(1, threads)), **os.environ}
    env['PYTHONPATH'] = os.pathsep.join(filter(None, [str(ROOT), env.get('PYTHONPATH', '')]))
    print('$ python', *command, flush=True)
    try:
        return subprocess.run(
            [sys.executable, *command],
            cwd=ROOT,
            env=env,
            text=True,
            timeout=seconds,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
    except subprocess.TimeoutExpired as error:
        printed = error.stdout.decode() if isinstance(error.stdout, bytes) else error.stdout or ''
        return subprocess.CompletedProcess(command, 1, f'{printed}\nover {seconds} s, stopped')


def run_tests(args: argparse.Namespace, folder: Path) -> tuple[str, bool]:
    """The section on the tests, and whether all is well."""
    out = folder / 'tests.xml'
    command = ['-m', 'pytest', '-q', 'tests/test_cuda', '-p', 'no:cacheprovider']
    command += ['-o', 'junit_family=xunit1', f'--junitxml={out}']
    chosen = args.expression
    if args.device == 'cuda':
        command += ['-m', 'cuda']
    else:
        command += ['-m', 'not long']
        chosen = f'cpu and ({chosen})' if chosen else 'cpu'
    if chosen:
        command += ['-k', chosen]
    if args.jobs > 1 and find_spec('xdist'):
        command += ['-n', str(args.jobs)]
    done = run(command, 600, args.jobs)
    print(done.stdout[-3000:])
    if not out.exists():
        return f'The tests did not run:\n\n```\n{done.stdout[-2000:]}\n```', False
    outcomes = read_outcomes(out)
    return summarize(outcomes), done.returncode == 0 and bool(outcomes)


def run_benchmark(
    title: str, tool: str, options: Sequence[str], args: argparse.Namespace, folder: Path
) -> tuple[str, bool]:
    """The section on a benchmark, and whether it ran."""
    out = folder / 'benchmark.json'
    out.unlink(missing_ok=True)
    shown = [f'tools/analysis_tools/{tool}', *options, '--device', args.device]
    shown += ['--iters', str(args.iters)]
    done = run([*shown, '--json', str(out)], 300)
    print(done.stdout[-3000:])
    ran = done.returncode == 0 and out.exists()
    if ran:
        result = table(benchmark_rows(json.loads(out.read_text())))
    else:
        result = f'Failed:\n\n```\n{done.stdout[-1500:].strip()}\n```'
    return f'**{title}** (`{" ".join(shown)}`)\n\n{result}', ran


def main(argv: Sequence[str] | None = None) -> None:
    """Runs everything and writes the report.

    Raises:
        SystemExit: If there is no GPU, or no repository around; in the end, if anything failed.
    """
    args = parse_args(argv)
    if not (ROOT / 'tests').is_dir():
        raise SystemExit('gpu_check.py needs the tests: call it in a clone of the repository.')
    if args.device == 'cuda' and not torch.cuda.is_available():
        raise SystemExit('PyTorch finds no CUDA device; --device cpu tries the command itself.')
    args.out.parent.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    sections = [f'# Check on {args.device}', machine(args.device)]
    all_well = True

    def add(section: str, well: bool) -> None:
        nonlocal all_well
        all_well = all_well and well
        sections.append(section)
        took = f'In all {time.perf_counter() - start:.0f} s so far.'
        args.out.write_text('\n\n'.join([*sections, took]) + '\n', encoding='utf-8')

    with TemporaryDirectory() as folder:
        if args.only != 'benchmarks':
            add(*run_tests(args, Path(folder)))
        if args.only != 'tests':
            for title, (tool, *options) in BENCHMARKS.items():
                add(*run_benchmark(title, tool, options, args, Path(folder)))
    print(args.out.read_text(encoding='utf-8'))
    raise SystemExit(0 if all_well else f'Something failed: see {args.out}.')


if __name__ == '__main__':
    main()
