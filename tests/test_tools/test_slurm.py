"""Slurm's launchers, on a cluster of one node that the tests set up; see slurm_cluster.sh."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import patience
import pytest
import tiny
import torch
import toy

PROGRAMS = ('munged', 'slurmctld', 'slurmd')
pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(
        os.getuid() != 0 or not all(map(shutil.which, PROGRAMS)),
        reason='needs Slurm, munge and root',
    ),
]

TOOLS = Path(__file__).parents[2] / 'tools'
CLUSTER = Path(__file__).parents[1] / 'slurm_cluster.sh'
JOB = 'tests', 'a-job'  # partition and name


@pytest.fixture(scope='module')
def slurm(tmp_path_factory):
    """Runs a command with the cluster, and what a user sets for two tasks."""
    folder = tmp_path_factory.mktemp('slurm')
    paths = [Path(tiny.__file__).parent, os.environ.get('PYTHONPATH')]
    env = {
        **os.environ,
        'SLURM_CONF': str(folder / 'slurm.conf'),
        'PYTHONPATH': os.pathsep.join(str(x) for x in paths if x),
        'PYTHON': sys.executable,
        'OMP_NUM_THREADS': '1',
        'GPUS': '2',
        'GPUS_PER_NODE': '2',
        'CPUS_PER_TASK': '1',
    }

    def run(*command, check=True):
        command = [str(x) for x in command]
        done = subprocess.run(
            command, env=env, capture_output=True, text=True, timeout=patience.SECONDS
        )
        assert not check or done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
        return done.stdout

    run(CLUSTER, 'up', folder)
    yield run
    run(CLUSTER, 'down', folder)


def training(folder, teacher_checkpoint, *hooks: dict):
    cfg = tiny.training(folder, teacher_checkpoint)
    cfg.custom_imports.imports = ['diffkd_mm', 'tiny_hooks']
    cfg.custom_hooks = list(hooks)
    cfg.train_dataloader.batch_size = 2
    cfg.dump(folder / 'config.py')
    return folder / 'config.py'


def checkpoint(work_dir: Path) -> dict:
    return torch.load(work_dir / 'epoch_2.pth', weights_only=False)


@pytest.fixture(scope='module')
def whole(slurm, tmp_path_factory, teacher_checkpoint):
    """Config and work dir of a training that nothing interrupted."""
    root = tmp_path_factory.mktemp('whole')
    report = dict(type='CompareReplicasHook', out=str(root))
    config = training(root, teacher_checkpoint, report)
    slurm(TOOLS / 'slurm_train.sh', *JOB, config, root / 'work')
    return config, root


def test_two_tasks_train_one_model(whole):
    _, root = whole
    reports = [json.loads((root / f'rank_{rank}.json').read_text()) for rank in range(2)]
    assert [report['world_size'] for report in reports] == [2, 2]
    assert reports[0]['start'] == reports[1]['start'] != reports[0]['end'] == reports[1]['end']


def test_they_test_it(slurm, whole, tmp_path):
    config, root = whole
    options = '--work-dir', tmp_path / 'test'
    log = slurm(TOOLS / 'slurm_test.sh', *JOB, config, root / 'work/epoch_2.pth', *options)
    assert 'coco/bbox_mAP' in log


def test_a_requeued_job_resumes(slurm, whole, tmp_path, teacher_checkpoint):
    """After `scontrol requeue`, as after preemption, and to the same bits."""
    waits = dict(type='WaitHook', iteration=3, file=str(tmp_path / 'never'))
    config = training(tmp_path, teacher_checkpoint, waits)
    log = tmp_path / 'job.log'
    train = f'{TOOLS}/slurm_train.sh {" ".join(JOB)} {config} {tmp_path}/work --resume'
    options = f'--requeue --ntasks=2 --gres=gpu:2 --open-mode=append --output={log}'.split()
    job = slurm('sbatch', '--parsable', *options, f'--wrap={train}').strip()

    def wait_for(condition) -> None:
        patience.wait_until(condition, lambda: log.read_text()[-3000:] + slurm('squeue'))

    wait_for(lambda: log.exists() and 'waiting in iteration 3' in log.read_text())
    assert not (tmp_path / 'work/epoch_2.pth').exists()
    slurm('scontrol', 'requeue', job)
    wait_for(lambda: 'PENDING' in slurm('squeue', '--noheader', '--format=%T', f'--jobs={job}'))
    now = f'JobId={job}', 'StartTime=now'  # not in two minutes
    slurm('scontrol', 'update', *now, check=False)  # which may be over
    wait_for(lambda: (tmp_path / 'work/epoch_2.pth').exists())
    wait_for(lambda: not slurm('squeue', '--noheader', f'--jobs={job}', check=False))
    assert 'resumed epoch: 1' in log.read_text()
    states = (toy.training_state(checkpoint(x / 'work')) for x in (whole[1], tmp_path))
    assert toy.differences(*states) == []
