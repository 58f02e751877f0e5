"""tools/compare.py with wrong input, and with trainings that ended early or were killed."""

import fcntl
import signal
import subprocess
import sys
from pathlib import Path

import patience
import pytest
from mmengine.config import Config
from pretended import TESTER, WEIGHT, count

from diffkd_mm.errors import DistillationError
from diffkd_mm.experiments import checks, runs, scalars

ROOT = Path(__file__).parents[2]


def test_a_run_without_its_last_validation_is_tested(study, tmp_path):
    """What training has ended resumes at its end: it trains and validates nothing."""
    (tmp_path / 'student.py').open('a').write('\nvalidation_fails = True')
    with pytest.raises(SystemExit, match='1 of 1 runs failed'):
        study('student', '--seeds', '1')
    assert '| student | – |' in (tmp_path / 'out/comparison.md').read_text()
    table = study('student', '--seeds', '1')
    assert '| student | 41.00 |' in table
    assert (tmp_path / 'out/student/seed_1/tests').read_text() == 'val'
    assert study('student', '--seeds', '1') == table
    assert count(tmp_path, 'starts') == {'student/seed_1': 2}


def test_a_wrong_metric_is_told_at_the_first_validation(study, tmp_path):
    for _ in range(2):  # also of a run that is finished
        with pytest.raises(SystemExit, match='--metric mIou: student seed 0 logs .* mAcc, mIoU'):
            study('student', '--metric', 'mIou', '--seeds', '0', '1')
        study('student')
    assert count(tmp_path, 'starts') == {'student/seed_0': 1}


@pytest.mark.parametrize(
    'config, metric, message',
    [
        ('demo/retinanet_digits_student', 'mIoU', r'CocoMetric \(coco/…\), which logs no such'),
        ('demo/retinanet_digits_student', 'coco/bbox_mAP', None),
        ('camvid/deeplabv3_camvid_student', 'coco/bbox_mAP', 'IoUMetric, which logs no such'),
        ('camvid/deeplabv3_camvid_student', 'mIoU', None),
        ('cifar10/wrn40_1_student', 'mIoU', r'Accuracy \(accuracy/…\), which logs no such'),
        ('cifar10/wrn40_1_student', 'accuracy/top1', None),
    ],
)
def test_a_metric_of_another_task_is_told_before(config, metric, message):
    cfg = Config.fromfile(ROOT / f'configs/{config}.py')
    if message is None:
        checks.check_evaluator(cfg, 'val_evaluator', metric, 'x')
        return
    with pytest.raises(
        DistillationError, match=f'--metric {metric}: val_evaluator of x is {message}'
    ):
        checks.check_evaluator(cfg, 'val_evaluator', metric, 'x')


def test_a_folder_in_use_is_left_alone(study, tmp_path, capsys):
    folder = tmp_path / 'out/student/seed_0'
    folder.mkdir(parents=True)
    with (folder / '.lock').open('w') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(SystemExit, match='1 of 2 runs failed'):
            study('student', '--seeds', '0', '1')
    assert f'another process is training in {folder}' in capsys.readouterr().out
    assert count(tmp_path, 'starts') == {'student/seed_1': 1}
    study('student', '--seeds', '0', '1')


@pytest.mark.skipif(sys.platform != 'linux', reason='other systems do not tie processes')
def test_a_killed_comparison_takes_its_training_along(tmp_path):
    (tmp_path / 'train.py').write_text(
        f'import os, time\nprint(os.getpid(), flush=True)\ntime.sleep({2 * patience.SECONDS})\n'
    )
    (tmp_path / 'a.py').write_text('')
    call = (
        f'import sys, pathlib; sys.path.insert(0, {str(ROOT / "tools")!r}); import compare; '
        f'compare.TOOLS = pathlib.Path({str(tmp_path)!r}); '
        'from diffkd_mm.experiments import runs; runs.student_parameters = lambda cfg: 0; '
        'compare.main()'
    )
    log = tmp_path / 'out/a/seed_0/train.log'
    command = [sys.executable, '-c', call, str(tmp_path / 'a.py'), '--work-dir', tmp_path / 'out']
    with subprocess.Popen(command) as process:
        patience.wait_until(lambda: process.poll() is not None or log.exists() and log.read_text())
        process.send_signal(signal.SIGKILL)
    training = int(log.read_text())
    patience.wait_until(lambda: not is_alive(training))


def is_alive(pid):
    """Whether a process runs; one that nobody has buried yet does not."""
    try:
        return Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0] != 'Z'
    except FileNotFoundError:
        return False


def test_files_that_were_cut_short(study, tmp_path):
    study('student')
    folder = tmp_path / 'out/student/seed_0'
    (folder / 'finished.json').write_text('')
    with next(folder.glob(scalars.SCALARS)).open('a') as file:
        file.write('{"mIoU": 4')
    assert '| student | 40.00 |' in study('student')
    assert count(tmp_path, 'starts') == {'student/seed_0': 1}


BASE = "_base_ = './{}.py'\n"


@pytest.mark.parametrize(
    'files, message',
    [
        ({}, 'cannot load the config .*bad.py.: FileNotFoundError'),
        ({'bad': 'x = = 1'}, 'cannot load the config .*bad.py.: SyntaxError'),
        ({'bad': 'raise ValueError("why")'}, 'cannot load the config .*bad.py.: ValueError: why'),
        (
            {'bad': BASE.format('other')},
            'cannot load the config .*bad.py.: FileNotFoundError: .*other.py',
        ),
        (
            {'bad': BASE.format('other'), 'other': BASE.format('bad')},
            'cannot load the config .*bad.py.: it inherits from its',
        ),
        ({'bad': 'x = 1'}, 'bad.py: it has no `model`'),
        ({'bad': 'model = dict(type="Nothing")'}, 'bad.py: its model cannot be built: .*Nothing'),
    ],
    ids=['missing', 'broken', 'raises', 'base missing', 'circular', 'no model', 'wrong model'],
)
def test_bad_configs(tmp_path, files, message):
    import compare

    for name, text in files.items():
        (tmp_path / f'{name}.py').write_text(text)
    with pytest.raises(SystemExit, match=message):
        compare.main([str(tmp_path / 'bad.py'), '--work-dir', str(tmp_path / 'out')])
    assert not (tmp_path / 'out').exists()


TUNING = ['--grid', f'{WEIGHT}=1,2', '--tune-seeds', '100']


@pytest.mark.parametrize(
    'options, message',
    [
        (['--jobs', '0'], '--jobs: 0 is not a number of 1 or more'),
        (['--jobs', '-1'], '--jobs: -1 is not a number of 1 or more'),
        (['--jobs', 'x'], '--jobs: x is not a number of 1 or more'),
        (['--seeds', '1', '2', '1'], '--seeds names 1 more than once'),
        (['--tune-seeds', '1'], '--tune-seeds picks from a --grid; there is none'),
        (['--grid', 'a=1,2', '--tune-seeds', '0'], '--seeds and --tune-seeds share 0'),
        (['--report-options', 'a=1'], '--report-options are for what --tune-seeds has picked'),
        ([*TUNING, '--report-options', 'x'], '--report-options x: expected KEY=VALUE'),
        ([*TUNING, '--report-options', 'base.x=1'], 'compare.py: --report-options do not fit'),
        (['--grid', f'{WEIGHT}=1,1'], f'--grid {WEIGHT}=1,1: expected KEY=VALUE'),
        (['--grid', WEIGHT], f'--grid {WEIGHT}: expected KEY=VALUE'),
        (['--grid', 'load_from=a/b,c'], 'a value names a folder; no slash'),
        (['--grid', 'model.points.nothing.loss=1,2'], 'none of the configs has a place for it'),
        (['--cfg-options', 'x'], '--cfg-options x: expected KEY=VALUE'),
        (['--cfg-options', 'randomness.seed=1'], 'give the seeds by --seeds'),
        (['--cfg-options', 'base.x=1'], 'compare.py: --cfg-options do not fit'),
        (['--contrast', 'student', 'nobody'], '--contrast nobody: name one of student, fitnet'),
        (['--relative-to', 'nobody'], '--relative-to nobody: name one of student, fitnet'),
        (
            ['--grid', f'{WEIGHT}=1,2', '--contrast', 'student', 'fitnet'],
            '--contrast fitnet: name one of fitnet/loss_weight=1, fitnet/loss_weight=2',
        ),
    ],
)  # fmt: skip
def test_bad_options(study, tmp_path, capsys, options, message):
    with pytest.raises(SystemExit) as error:
        study('student fitnet', *options)
    assert message in str(error.value) + capsys.readouterr().err
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize(
    'train_cfg, logger, step, undated, last',
    [
        (dict(max_iters=1020), dict(), 1020, False, True),
        (dict(max_iters=1020), dict(), 1000, False, False),
        (dict(max_iters=1020), dict(interval=50), 1000, True, True),
        (dict(max_iters=1020), dict(interval=50), 950, True, False),
        (dict(max_epochs=12), dict(), 12, False, True),
        (dict(max_epochs=12), dict(log_metric_by_epoch=False), 5000, False, False),
        (dict(), dict(), 12, False, False),
    ],
)
def test_the_last_validation(train_cfg, logger, step, undated, last):
    cfg = Config(dict(train_cfg=train_cfg, default_hooks=dict(logger=logger)))
    entry = dict(step=step, undated=True) if undated else dict(step=step)
    assert scalars.is_last(entry, cfg) is last


def test_imports_among_the_options(tmp_path, monkeypatch):
    """MMEngine imports what the file names, before options are merged."""
    (tmp_path / 'own_connector.py').write_text('LOADED = True\n')
    (tmp_path / 'config.py').write_text('model = dict()\n')
    monkeypatch.syspath_prepend(str(tmp_path))
    runs.resolve(tmp_path / 'config.py', ['custom_imports.imports=[own_connector]'])
    assert sys.modules.pop('own_connector').LOADED


def test_a_test_split_without_the_metric(study, tmp_path, capsys):
    """As where a detector finds nothing at all, and MMDetection logs nothing."""
    (tmp_path / 'test.py').write_text(TESTER.replace("{'mIoU': value}", "{'time': 1.0}"))
    with pytest.raises(SystemExit, match='1 of 1 runs failed'):
        study('student', '--report-split', 'test')
    assert 'student seed 0: FAILED, no mIoU on the test split' in capsys.readouterr().out
