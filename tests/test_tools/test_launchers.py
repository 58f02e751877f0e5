"""What the launchers start, and refuse; test_nodes.py and test_slurm.py run trainings by them."""

import os
import subprocess
from pathlib import Path

import patience
import pytest

from diffkd_mm import launch

TOOLS = Path(__file__).parents[2] / 'tools'


@pytest.mark.parametrize('tool', [['dist_train.sh', 'CONFIG'], ['dist_test.sh', 'CONFIG', 'FILE']])
@pytest.mark.parametrize('number', ['0', '-1', 'x', '1.5'])
def test_a_wrong_number_of_processes(tool, number):
    name, *arguments = tool
    done = subprocess.run(
        [TOOLS / name, *arguments, number],
        capture_output=True,
        text=True,
        timeout=patience.SECONDS,
    )
    expected = f"error: GPUS is the number of processes, 1 or more, not '{number}'"
    assert (done.returncode, done.stderr.strip()) == (2, expected)


@pytest.fixture
def call(tmp_path):
    """Runs a launcher with programs that print their arguments."""
    for name in ('python', 'srun'):
        (tmp_path / name).write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
        (tmp_path / name).chmod(0o755)

    def call(tool, *arguments, **env):
        path = f'{tmp_path}{os.pathsep}{os.environ["PATH"]}'
        env = {'PATH': path, 'PYTHON': str(tmp_path / 'python'), **env}
        command = [TOOLS / tool, *arguments]
        return subprocess.run(command, capture_output=True, text=True, env=env).stdout.splitlines()

    return call


@pytest.mark.parametrize('node, host', [('0', 'true'), ('1', 'false')])
def test_nodes_of_fixed_ranks_and_nodes_that_restart(call, node, host):
    env = dict(NNODES='2', NODE_RANK=node, MASTER_ADDR='10.0.0.1', PORT='29501')
    fixed = call('dist_train.sh', 'CONFIG', '4', **env)
    assert {f'--node-rank={node}', '--master-addr=10.0.0.1', '--master-port=29501'} < set(fixed)
    assert not any('restarts' in x or 'rdzv' in x for x in fixed)
    restarting = call('dist_train.sh', 'CONFIG', '4', '--resume', MAX_RESTARTS='3', **env)
    assert {'--max-restarts=3', '--rdzv-endpoint=10.0.0.1:29501'} < set(restarting)
    assert f'--rdzv-conf=is_host={host},join_timeout=600' in restarting
    for arguments in (fixed, restarting):
        assert {'--nnodes=2', '--nproc-per-node=4', f'{TOOLS}/train.py', 'CONFIG'} < set(arguments)
        assert arguments[-2:] == ['--launcher', 'pytorch']


def test_slurms_ranks(monkeypatch):
    """Those of torchrun's names, and a port for each job."""
    monkeypatch.setattr(os, 'environ', {})
    for job, rank in ((7, 0), (8, 3)):
        os.environ.clear()
        os.environ.update(
            SLURM_PROCID=str(rank), SLURM_NTASKS='4', SLURM_LOCALID='1', SLURM_JOB_ID=str(job)
        )
        os.environ['MASTER_ADDR'] = 'node7'
        launch.use_slurms_ranks()
        found = {key: x for key, x in os.environ.items() if 'SLURM' not in key}
        assert found == dict(
            RANK=str(rank),
            WORLD_SIZE='4',
            LOCAL_RANK='1',
            MASTER_ADDR='node7',
            MASTER_PORT=str(20000 + job),
        )


def test_only_broken_connections_are_explained():
    launch.explain_lost_processes(RuntimeError('shapes do not match'))
    broken = RuntimeError('[/third_party/gloo/transport/tcp/pair.cc:545] Connection reset by peer')
    with pytest.raises(SystemExit, match='rank 0 has lost the other processes: .*reset by peer'):
        launch.explain_lost_processes(broken)
