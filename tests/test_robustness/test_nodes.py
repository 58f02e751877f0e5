"""Two nodes: two torchrun agents of one process each, on the loopback interface."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import patience
import psutil
import pytest
import tiny
import torch
import toy

pytestmark = pytest.mark.long

TRAIN = Path(__file__).parents[2] / 'tools' / 'dist_train.sh'
TIMEOUT = 60  # seconds; also the time that two nodes have to come together
LOST = 'has lost the other processes: '
# DiffKD without norms that look at a whole batch.
DIFFKD = dict(
    student='neck',
    teacher='neck',
    connector=dict(
        type='DiffKDConnector',
        student_channels=16,
        teacher_channels=24,
        norm_cfg=dict(type='GN', num_groups=4),
    ),
    loss=dict(type='MSELoss', loss_weight=5.0),
)


def training(folder, teacher_checkpoint, batch_size: int, *hooks: dict):
    """Path of the config of a training of two epochs; batches of four are global ones."""
    model = tiny.distiller(teacher_checkpoint, dict(fpn=DIFFKD))
    model['student']['backbone']['norm_eval'] = True
    # MMDetection's own losses are divided by the objects of each process.
    for loss in ('loss_cls', 'loss_bbox'):
        model['student']['bbox_head'][loss]['loss_weight'] = 0.0
    cfg = tiny.training(folder, teacher_checkpoint, model=model)
    cfg.custom_imports.imports = ['diffkd_mm', 'tiny_hooks']
    cfg.custom_hooks = list(hooks)
    cfg.train_dataloader.batch_size = batch_size
    folder.mkdir(exist_ok=True)
    cfg.dump(folder / 'config.py')
    return folder / 'config.py'


def free_port() -> str:
    with socket.socket() as listener:
        listener.bind(('', 0))
        return str(listener.getsockname()[1])


class Nodes:
    """Starts a training on nodes and ends it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.processes: list[subprocess.Popen] = []

    def start(self, config, *options, nodes: int = 2, **env) -> None:
        for rank in range(nodes):
            self.start_one(rank, nodes, config, *options, **env)

    def start_one(self, rank: int, nodes: int, config, *options, **env) -> None:
        paths = [Path(tiny.__file__).parent, os.environ.get('PYTHONPATH')]
        env = {
            **os.environ,
            'PYTHONPATH': os.pathsep.join(str(x) for x in paths if x),
            'CUDA_VISIBLE_DEVICES': '',
            'OMP_NUM_THREADS': '1',
            'PYTHON': sys.executable,
            'NNODES': str(nodes),
            'NODE_RANK': str(rank),
            'PORT': self.port,
            **env,
        }
        with (self.folder / f'node_{rank}.log').open('a') as log:
            command = [TRAIN, config, '1', *options]
            self.processes.append(subprocess.Popen(command, stdout=log, stderr=log, env=env))

    def wait(self, *ranks: int) -> list[int]:
        """Exit statuses of the launchers, in the order in which they were started."""
        ranks = ranks or range(len(self.processes))
        return [self.processes[rank].wait(patience.SECONDS) for rank in ranks]

    def log(self, rank: int) -> str:
        return (self.folder / f'node_{rank}.log').read_text()

    def wait_for(self, rank: int, text: str) -> None:
        def said_or_ended() -> bool:
            return text in self.log(rank) or self.processes[rank].poll() is not None

        patience.wait_until(said_or_ended, lambda: self.log(rank)[-3000:])
        assert text in self.log(rank), self.log(rank)[-3000:]

    def signal(self, rank: int, number: int) -> None:
        """Sends a signal to all processes of a node, the launcher first."""
        self.signalled = time.monotonic()
        try:
            launcher = psutil.Process(self.processes[rank].pid)
            for process in (launcher, *launcher.children(recursive=True)):
                process.send_signal(number)
        except psutil.NoSuchProcess:
            pass

    def since_signal(self) -> float:
        """Seconds."""
        return time.monotonic() - self.signalled

    def end(self) -> None:
        for rank, process in enumerate(self.processes):
            self.signal(rank, signal.SIGKILL)
            process.wait()


@pytest.fixture
def nodes(tmp_path):
    nodes = Nodes(tmp_path)
    yield nodes
    nodes.end()


def test_two_nodes_equal_one_process(tmp_path, teacher_checkpoint, nodes):
    """With the same global batches and fixed noise, up to rounding."""
    noise = dict(type='FixedNoiseHook')
    one = Nodes(tmp_path)
    one.start(training(tmp_path / 'one', teacher_checkpoint, 4, noise), nodes=1)
    assert one.wait() == [0], one.log(0)[-3000:]
    nodes.start(training(tmp_path / 'two', teacher_checkpoint, 2, noise))
    assert nodes.wait() == [0, 0], nodes.log(0)[-3000:]
    start, one, two = (
        torch.load(tmp_path / name, weights_only=False)['state_dict']
        for name in ('one/work/epoch_1.pth', 'one/work/epoch_2.pth', 'two/work/epoch_2.pth')
    )
    assert sum(not torch.equal(one[name], start[name]) for name in one) > 50
    for name, value in one.items():
        torch.testing.assert_close(value, two[name], rtol=1e-4, atol=1e-6, msg=name)


def test_a_killed_worker_starts_all_anew(tmp_path, teacher_checkpoint, nodes):
    """From the last checkpoint, and they end with the bits of a training without a kill."""
    whole = Nodes(tmp_path)
    whole.start(training(tmp_path / 'whole', teacher_checkpoint, 2))
    assert whole.wait() == [0, 0], whole.log(0)[-3000:]
    kill = dict(type='KillHook', iteration=3, rank=1)
    config = training(tmp_path / 'killed', teacher_checkpoint, 2, kill)
    nodes.start(config, '--resume', MAX_RESTARTS='1', LOCAL_ADDR='127.0.0.1')
    assert nodes.wait() == [0, 0], nodes.log(0)[-3000:] + nodes.log(1)[-3000:]
    whole, resumed = (
        torch.load(tmp_path / name / 'work/epoch_2.pth', weights_only=False)
        for name in ('whole', 'killed')
    )
    assert toy.differences(toy.training_state(whole), toy.training_state(resumed)) == []


@pytest.fixture
def waiting(tmp_path, teacher_checkpoint, nodes):
    """Starts two nodes, waits until both wait in iteration 3, and has one of them signalled.

    What is left of them goes on then. Gives the config.
    """
    go = tmp_path / 'go'
    hook = dict(type='WaitHook', iteration=3, file=str(go))
    config = training(tmp_path / 'training', teacher_checkpoint, 2, hook)

    def start_and_signal(number: int, *options, **env) -> Path:
        nodes.start(config, *options, **env)
        for rank in range(2):
            nodes.wait_for(rank, 'waiting in iteration 3')
        nodes.signal(1, number)
        go.touch()
        return config

    return start_and_signal


def test_a_dead_node_ends_the_other(nodes, waiting):
    """At once, where the connections break: not after the half hour of a silent one."""
    waiting(signal.SIGKILL)
    assert nodes.wait(0) == [1]
    assert LOST in nodes.log(0), nodes.log(0)[-3000:]


def test_a_silent_node_ends_the_other(nodes, waiting):
    """After the timeout of the group, where nothing breaks and nothing comes."""
    waiting(signal.SIGSTOP, '--cfg-options', f'env_cfg.dist_cfg.timeout={TIMEOUT}')
    assert nodes.wait(0) == [1]
    assert nodes.since_signal() > TIMEOUT
    assert LOST in nodes.log(0), nodes.log(0)[-3000:]


def test_a_node_may_come_back(nodes, waiting):
    """The others wait for it, and go on from the last checkpoint."""
    restarts = dict(MAX_RESTARTS='1', LOCAL_ADDR='127.0.0.1')
    config = waiting(signal.SIGKILL, '--resume', **restarts)
    nodes.wait_for(0, LOST)
    nodes.start_one(1, 2, config, '--resume', **restarts)
    assert nodes.wait(0, 2) == [0, 0], nodes.log(0)[-3000:]
    assert 'resumed epoch: 1' in nodes.log(0)


def test_a_node_that_stays_away_ends_the_others(nodes, waiting):
    restarts = dict(MAX_RESTARTS='1', LOCAL_ADDR='127.0.0.1', JOIN_TIMEOUT=str(TIMEOUT))
    waiting(signal.SIGKILL, '--resume', **restarts)
    assert nodes.wait(0) == [1]
    assert nodes.since_signal() > TIMEOUT
    assert 'RendezvousTimeoutError' in nodes.log(0), nodes.log(0)[-3000:]
