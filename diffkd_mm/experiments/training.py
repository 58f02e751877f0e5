"""Trains the runs of a comparison, several at a time, each in a process of its own."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from .runs import FINISHED, STARTED, Run, resolve, set_aside_if_outdated
from .scalars import Progress


class Trainer:
    """Trains runs and tells how far they are.

    Args:
        script (Path): The project's ``tools/train.py``.
        metric (str): Metric of the validations to tell.
        threads (int): Threads of a training.
    """

    def __init__(self, script: Path, metric: str, threads: int) -> None:
        self.script = script
        self.metric = metric
        self.threads = threads
        self.processes: list[subprocess.Popen] = []
        self.stopped = False

    def train_all(self, runs: list[Run], jobs: int) -> list[bool]:
        """Trains all runs, ``jobs`` at a time; tells of each whether it succeeded.

        Raises:
            KeyboardInterrupt: When interrupted, with all trainings ended.
        """
        with ThreadPoolExecutor(jobs) as pool:
            futures = [
                pool.submit(self.train, run, f'[{i}/{len(runs)}]') for i, run in enumerate(runs, 1)
            ]
            try:
                return [future.result() for future in futures]
            except KeyboardInterrupt:
                pool.shutdown(wait=False, cancel_futures=True)  # or the next runs would start now
                self.stop()
                raise

    def train(self, run: Run, label: str) -> bool:
        """Trains a run unless it is finished. Returns whether it succeeded."""
        if run.finished:
            print(f'{label} {run.name}: finished before', flush=True)
            return True
        set_aside_if_outdated(run)
        run.mark(STARTED)
        command = [sys.executable, str(self.script), str(run.config)]
        command += ['--work-dir', str(run.folder), '--resume']
        command += ['--cfg-options', f'randomness.seed={run.seed}', *run.options]
        train_cfg = resolve(run.config, run.options).get('train_cfg') or {}
        progress = Progress(run.folder, self.metric, train_cfg)
        log = run.folder / 'train.log'
        with log.open('a') as file, self._start(command, file) as process:
            ended = False
            while not ended:
                ended = _ends_within(process, seconds=0.5)
                for message in progress:
                    print(f'{label} {run.name}: {message}', flush=True)
        if process.returncode == 0:
            run.mark(FINISHED)
            return True
        tail = ''.join(log.read_text().splitlines(keepends=True)[-15:])
        print(f'{label} {run.name}: FAILED, see {log}\n{tail}', flush=True)
        return False

    def _start(self, command: list[str], log) -> subprocess.Popen:
        env = {**os.environ, 'OMP_NUM_THREADS': str(self.threads), 'PYTHONUNBUFFERED': '1'}
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=env)
        self.processes.append(process)
        if self.stopped:  # while it was being started
            process.terminate()
        return process

    def stop(self) -> None:
        """Ends the trainings that run."""
        self.stopped = True
        for process in self.processes:
            process.terminate()


def _ends_within(process: subprocess.Popen, seconds: float) -> bool:
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


def threads_per_job(jobs: int) -> int:
    """The cores of this process, divided; fewer if ``OMP_NUM_THREADS`` says so.

    More never: runs side by side would fight for the cores.
    """
    threads = max(len(os.sched_getaffinity(0)) // jobs, 1)
    return min(threads, int(os.environ.get('OMP_NUM_THREADS', threads)))
