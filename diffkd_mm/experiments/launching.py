"""The commands that train and test a run: in one process, on several GPUs, through Slurm."""

import os
import sys
import zlib
from dataclasses import dataclass
from pathlib import Path

import torch
from mmengine.config import Config

from diffkd_mm.errors import DistillationError

from .runs import Run


@dataclass
class Launcher:
    """Runs the tools in one process.

    Attributes:
        tools (Path): The folder of ``train.py`` and ``test.py``.
    """

    tools: Path

    def train(self, run: Run) -> list[str]:
        """The command that trains a run, or goes on with it."""
        command = [sys.executable, self.tools / 'train.py', run.arm.config]
        return self._complete(command, run, '--work-dir', run.folder, '--resume')

    def test(self, run: Run, checkpoint: Path, split: str) -> list[str]:
        """The command that tests a checkpoint and writes into the folder ``split`` of the run."""
        command = [sys.executable, self.tools / 'test.py', run.arm.config, checkpoint]
        return self._complete(command, run, '--work-dir', run.folder / split, '--split', split)

    def environment(self, run: Run) -> dict[str, str]:
        """What the commands need in their environment."""
        return {}

    def _complete(self, command: list, run: Run, *options: str | Path) -> list[str]:
        overriding = [f'randomness.seed={run.seed}', *run.arm.options]
        return [str(part) for part in (*command, *options, '--cfg-options', *overriding)]


@dataclass
class ParallelLauncher(Launcher):
    """Runs the tools on the GPUs that a config is made for, or on others with the same batch.

    Attributes:
        gpus (int, optional): Processes, one per GPU; None for as many as the config is made for.
        partition (str, optional): Slurm's; None to run on this machine.
    """

    gpus: int | None = None
    partition: str | None = None

    def train(self, run: Run) -> list[str]:
        options = '--work-dir', run.folder, '--resume'
        if self.partition:
            job = [self.partition, run.arm.config.stem, run.arm.config, run.folder]
            return self._complete([self.tools / 'slurm_train.sh', *job], run, '--resume')
        if (gpus := self.processes(run)) == 1:
            return super().train(run)
        return self._complete([self.tools / 'dist_train.sh', run.arm.config, gpus], run, *options)

    def test(self, run: Run, checkpoint: Path, split: str) -> list[str]:
        options = '--work-dir', run.folder / split, '--split', split
        if self.partition:
            job = [self.partition, run.arm.config.stem, run.arm.config, checkpoint]
            return self._complete([self.tools / 'slurm_test.sh', *job], run, *options)
        if (gpus := self.processes(run)) == 1:
            return super().test(run, checkpoint, split)
        command = [self.tools / 'dist_test.sh', run.arm.config, checkpoint, gpus]
        return self._complete(command, run, *options)

    def environment(self, run: Run) -> dict[str, str]:
        """Slurm's tasks, and a port for jobs that share a node; what the user has set is kept."""
        if not self.partition:
            return {}
        gpus = self.processes(run)
        per_node = min(gpus, int(os.environ.get('GPUS_PER_NODE', 8)))
        port = 20000 + zlib.crc32(str(run.folder.absolute()).encode()) % 10000
        port = os.environ.get('MASTER_PORT', str(port))
        return dict(GPUS=str(gpus), GPUS_PER_NODE=str(per_node), MASTER_PORT=port)

    def processes(self, run: Run) -> int:
        """Processes of a run."""
        return self.gpus or intended_gpus(run.arm.cfg)

    def check(self, run: Run) -> None:
        """Checks that a run can be started so.

        Raises:
            DistillationError: If the batch cannot be divided, or this machine has too few GPUs.
        """
        name, gpus, found = run.arm.config.stem, self.processes(run), torch.cuda.device_count()
        if self.batch_option(run) is None:
            total = intended_gpus(run.arm.cfg) * run.arm.cfg.train_dataloader.batch_size
            raise DistillationError(f'--gpus {gpus}: {name} has batches of {total} in total.')
        # Without any GPU, processes that were asked for run on the CPU.
        if not self.partition and gpus > found and (found or (self.gpus is None and gpus > 1)):
            raise DistillationError(
                f'{name} runs on {gpus} GPUs, this machine has {found}; --gpus N keeps the batch '
                'in total, --slurm PARTITION trains elsewhere.'
            )

    def batch_option(self, run: Run) -> list[str] | None:
        """The batch per GPU where it is not the config's; None if it is no whole number."""
        intended, gpus = intended_gpus(run.arm.cfg), self.processes(run)
        if gpus == intended:
            return []
        batch, rest = divmod(intended * run.arm.cfg.train_dataloader.batch_size, gpus)
        return None if rest or not batch else [f'train_dataloader.batch_size={batch}']

    def _complete(self, command: list, run: Run, *options: str | Path) -> list[str]:
        return super()._complete(command, run, *options) + (self.batch_option(run) or [])


def intended_gpus(cfg: Config) -> int:
    """GPUs that a config is made for: its batch in total over that of a GPU."""
    total = (cfg.get('auto_scale_lr') or {}).get('base_batch_size')
    batch = (cfg.get('train_dataloader') or {}).get('batch_size')
    return max(total // batch, 1) if total and batch else 1
