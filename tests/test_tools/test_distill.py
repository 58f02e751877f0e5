"""`tools/distill.py`: a config from two names, a dry run, and a training."""

import os
import re
import subprocess
import sys
from pathlib import Path

import patience
import pytest
import tiny
from mmengine.config import Config

TOOL = Path(__file__).parents[2] / 'tools' / 'distill.py'


@pytest.fixture(scope='module')
def pair(tmp_path_factory):
    """Files of a student with data and schedule, and of a teacher."""
    folder = tmp_path_factory.mktemp('pair')
    tiny.training(folder, 'none', model=tiny.retinanet()).dump(folder / 'student.py')
    teacher = dict(model=tiny.retinanet(channels=24), default_scope='mmdet')
    Config(teacher).dump(folder / 'teacher.py')
    return [str(folder / 'student.py'), str(folder / 'teacher.py')]


def call(*args, code=0):
    import distill

    try:
        distill.main([str(arg) for arg in args])
        status = None
    except SystemExit as error:
        status = error.code
    assert status == (code or None)


def test_trains(pair, tmp_path, teacher_checkpoint):
    """One command, with options of train.py, ends with a checkpoint of the student."""
    out = tmp_path / 'configs' / 'own.py'
    done = subprocess.run(
        [sys.executable, TOOL, *pair, '--out', out, '--teacher-checkpoint', teacher_checkpoint]
        + ['--train', '--work-dir', tmp_path / 'work', '--cfg-options', 'train_cfg.max_epochs=1'],
        capture_output=True,
        text=True,
        timeout=patience.SECONDS,
        env={**os.environ, 'OMP_NUM_THREADS': '1'},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert f'written: {out}' in done.stdout and 'fpn.loss_kd' in done.stdout + done.stderr
    assert (tmp_path / 'work' / 'epoch_1.pth').is_file()


def test_dry_run_writes_nothing(pair, tmp_path, teacher_checkpoint, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    options = ['--teacher-checkpoint', teacher_checkpoint, '--dry-run', '--shape', 64, 64]
    call(*pair, '--method', 'fitnet', *options)
    text = capsys.readouterr().out
    assert 'fpn: neck ← neck' in text and 'ConvConnector and MSELoss' in text
    assert 'fpn.loss_kd: ' in text and "the student's own losses: " in text
    ratio = float(re.search(r'fpn.loss_kd: \S+ (\S+) times the', text)[1])
    said = re.search(r"with its weight of 1 \(weight 1 is that of MasKD's code.*balance=dict", text)
    assert bool(said) == (not 0.01 <= ratio <= 10)
    assert not list(tmp_path.iterdir())


def test_dry_run_needs_no_weights(pair, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    call(*pair, '--dry-run', '--shape', 64, 64, '--random-weights')
    text = capsys.readouterr().out
    assert 'weights: not known' in text and 'say nothing yet' in text


def test_writes_beside_and_never_over(pair, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    call(*pair, '--teacher-checkpoint', 'teacher.pth')
    path = Path('student_teacher_diffkd.py')
    assert 'train it: python tools/train.py student_teacher_diffkd.py' in capsys.readouterr().out
    text = path.read_text()
    path.write_text('mine')
    again = [*pair, '--teacher-checkpoint', 'teacher.pth']
    call(
        *again,
        code=f"distill.py: '{path}' is there already: name another by --out, or say --overwrite.",
    )
    assert path.read_text() == 'mine'
    call(*again, '--overwrite')
    assert path.read_text() == text


def test_mistakes_are_one_sentence(pair, capsys):
    call(
        *pair,
        code=f'distill.py: teacher: no weights are listed for {pair[1]!r}; give them by '
        '--teacher-checkpoint.',
    )
    call(*pair, '--amp', code=2)
    assert 'options of train.py need --train' in capsys.readouterr().err
