"""Trains and tests the runs of a comparison, several at a time, each in a process of its own."""

import os
import subprocess
import sys
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait

from diffkd_mm.errors import DistillationError

from .launching import Launcher
from .results import last_checkpoint, read_test, tested, validated_at_the_end
from .runs import FINISHED, STARTED, FolderInUse, Run
from .scalars import Progress, check_metric, last_step, read_scalars

# Run before the command, in its process: Linux is to end it with this process, however that ends.
_TIED = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG, which a new program inherits
if os.getppid() != int(sys.argv[1]):
    sys.exit('the process that started this one is gone')
os.execv(sys.argv[2], sys.argv[2:])
"""


class Trainer:
    """Trains and tests runs, and tells how far they are.

    Args:
        launcher (Launcher): What the commands are.
        metric (str): Metric of the validations.
        threads (int): Threads of a process.
    """

    def __init__(self, launcher: Launcher, metric: str, threads: int) -> None:
        self.launcher = launcher
        self.metric = metric
        self.threads = threads
        self.processes: list[subprocess.Popen] = []
        self.stopped = False

    def run_all(self, runs: list[Run], jobs: int, split: str = 'val') -> list[bool]:
        """Trains all runs, ``jobs`` at a time, and tests them.

        Args:
            runs (list[Run]): The runs.
            jobs (int): Processes at a time.
            split (str): ``'test'`` tests the last checkpoint of each on the test split as well.

        Returns:
            list[bool]: Of each run, whether it succeeded.

        Raises:
            DistillationError: If the metric is not among those that a run logs. Like an
                interruption, this ends all trainings.
        """
        with ThreadPoolExecutor(jobs) as pool:
            futures = [
                pool.submit(self.run, run, f'[{i}/{len(runs)}]', split)
                for i, run in enumerate(runs, 1)
            ]
            try:
                wait(futures, return_when=FIRST_EXCEPTION)
                done = [future for future in futures if future.done()]
                for future in done:
                    future.result()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)  # or the next runs would start now
                self.stop()
                raise
            return [future.result() for future in futures]

    def run(self, run: Run, label: str, split: str) -> bool:
        """Trains a run unless it is finished, and tests it. Returns whether all succeeded."""
        try:
            if not run.outdated:
                check_metric(read_scalars(run.folder), self.metric, run.name)
            run.set_aside_if_outdated()
            with run.lock() as lock:
                return self.train(run, label, lock) and (
                    split == 'val' or self.test(run, label, split, lock)
                )
        except FolderInUse as error:
            print(f'{label} {run.name}: FAILED, {error}', flush=True)
            return False

    def train(self, run: Run, label: str, lock: int) -> bool:
        """Trains a run unless it is finished. Returns whether its last validation is known."""
        if validated_at_the_end(run, self.metric):
            known = run.read(FINISHED) or run.read(STARTED)
            note = '' if known else ', not by this tool: taken as it is'
            print(f'{label} {run.name}: finished before{note}', flush=True)
            run.write(FINISHED)
            return True
        run.write(STARTED)
        if not self._execute(run, label, self.launcher.train(run), lock):
            return False
        if last_step(run.arm.cfg) is not None and not validated_at_the_end(run, self.metric):
            # The training had ended before, but not its validation, which is not resumed.
            if not self.test(run, label, 'val', lock):
                return False
        run.write(FINISHED)
        return True

    def test(self, run: Run, label: str, split: str, lock: int) -> bool:
        """Evaluates the last checkpoint, unless that is done. Returns whether it succeeded."""
        if tested(run, split, self.metric) is not None:
            return True
        if (checkpoint := last_checkpoint(run.folder)) is None:
            print(f'{label} {run.name}: FAILED, no checkpoint in {run.folder}', flush=True)
            return False
        print(f'{label} {run.name}: {split} split, {checkpoint.name}', flush=True)
        command = self.launcher.test(run, checkpoint, split)
        if not self._execute(run, label, command, lock):
            return False
        metrics = read_test(run.folder / split)
        check_metric([metrics], self.metric, f'the {split} split of {run.name}')
        if self.metric not in metrics:  # as where a detector finds nothing at all
            print(f'{label} {run.name}: FAILED, no {self.metric} on the {split} split', flush=True)
            return False
        run.write(f'{split}.json', checkpoint=checkpoint.name, metrics=metrics)
        value = f'{self.metric} {metrics[self.metric]:.4f}'
        print(f'{label} {run.name}: {split} split: {value}', flush=True)
        return True

    def _execute(self, run: Run, label: str, command: list[str], lock: int) -> bool:
        """Runs a command to its end and tells what it logs. Returns whether it succeeded."""
        progress = Progress(run.folder, run.name, self.metric, run.arm.cfg)
        log = run.folder / 'train.log'
        env = self.launcher.environment(run)
        with log.open('a') as file, self._start(command, env, file, lock) as process:
            ended = False
            while not ended:
                ended = _ends_within(process, seconds=0.5)
                try:
                    for message in progress:
                        print(f'{label} {run.name}: {message}', flush=True)
                except DistillationError:
                    process.terminate()
                    raise
        if process.returncode == 0 or self.stopped:
            return process.returncode == 0
        tail = ''.join(log.read_text(errors='replace').splitlines(keepends=True)[-15:])
        print(f'{label} {run.name}: FAILED, see {log}\n{tail}', flush=True)
        return False

    def _start(self, command: list[str], env: dict, log, lock: int) -> subprocess.Popen:
        python = os.environ.get('PYTHON', sys.executable)  # for the launchers in tools/
        common = dict(OMP_NUM_THREADS=str(self.threads), PYTHONUNBUFFERED='1', PYTHON=python)
        is_linux = sys.platform == 'linux'
        tied = [sys.executable, '-c', _TIED, str(os.getpid())] if is_linux else []
        process = subprocess.Popen(
            [*tied, *command],
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **common, **env},
            pass_fds=[lock],
        )
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
