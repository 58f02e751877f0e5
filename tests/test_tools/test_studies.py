"""Studies by tools/compare.py, with a trainer and a tester that only pretend."""

import csv
import fcntl
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mmengine.config import Config
from scipy import stats

from diffkd_mm.errors import DistillationError
from diffkd_mm.experiments import checks, intervals, runs, scalars

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / 'tools'))

import compare  # noqa: E402

WEIGHT = 'model.points.fpn.loss.loss_weight'
# Logs what its config, the weight and the seed make of it, unless there is nothing left to train.
TRAINER = """
import json, pathlib, sys
config = {}
exec(pathlib.Path(sys.argv[1]).read_text(), config)
work_dir = pathlib.Path(sys.argv[sys.argv.index('--work-dir') + 1])
options = dict(pair.split('=') for pair in sys.argv[sys.argv.index('--cfg-options') + 1:])
weight = float(options.get('model.points.fpn.loss.loss_weight', 0))
seed = int(options['randomness.seed'])
value = config['base'] - abs(weight - config.get('best', 0)) + seed * config.get('slope', 1)
with (work_dir / 'starts').open('a') as file:
    file.write('.')
if not (work_dir / 'iter_4.pth').exists():
    folder = work_dir / '20250101_000000' / 'vis_data'
    folder.mkdir(parents=True)
    entries = [
        {'loss': 1.0, 'time': 9.0, 'step': 2},
        {'mIoU': value - 1, 'mAcc': 1.0, 'time': 0.1, 'step': 2},
        {'loss': 1.0, 'time': config['seconds'], 'step': 4},
    ]
    if not config.get('validation_fails'):
        entries.append({'mIoU': value, 'mAcc': 2.0, 'time': 0.1, 'step': 4})
    (folder / 'scalars.json').write_text(''.join(json.dumps(x) + chr(10) for x in entries))
    (work_dir / 'iter_4.pth').touch()
    (work_dir / 'last_checkpoint').write_text('/moved/since/iter_4.pth')
    if config.get('validation_fails'):
        raise SystemExit('no room for predictions')
"""
# Finds on the test split 10 less than on the validation split.
TESTER = """
import json, pathlib, sys
folder = pathlib.Path(sys.argv[sys.argv.index('--work-dir') + 1])
split = sys.argv[sys.argv.index('--split') + 1]
checkpoint = pathlib.Path(sys.argv[2])
assert checkpoint.is_file()
with (checkpoint.parent / 'tests').open('a') as file:
    file.write(split)
seed = next(int(x.split('=')[1]) for x in sys.argv if x.startswith('randomness.seed='))
(folder / '20250102_000000').mkdir(parents=True)
value = 40 + seed - 10 * (split == 'test')
(folder / '20250102_000000' / '20250102_000000.json').write_text(json.dumps({'mIoU': value}))
"""
POINT = 'model = dict(points=dict(fpn=dict(loss=dict())))'
CONFIGS = dict(
    student='base, seconds = 40, 0.5',
    fitnet=f'base, best, seconds, slope = 50, 0.5, 0.5, 2\n{POINT}',
    diffkd=f'base, best, seconds = 60, 5, 0.75\n{POINT}',
)


@pytest.fixture
def study(monkeypatch, tmp_path):
    """Calls the tool with some of the configs and further options."""
    (tmp_path / 'train.py').write_text(TRAINER)
    (tmp_path / 'test.py').write_text(TESTER)
    monkeypatch.setattr(compare, 'TOOLS', tmp_path)
    monkeypatch.setattr(runs, 'student_parameters', lambda cfg: 0.25)
    for name, text in CONFIGS.items():
        lines = [text, 'train_cfg = dict(max_iters=4)', 'test_dataloader = dict(batch_size=1)']
        (tmp_path / f'{name}.py').write_text('\n'.join(lines))

    def call(names, *options):
        configs = [str(tmp_path / f'{name}.py') for name in names.split()]
        work_dir = tmp_path / 'out'
        compare.main([*configs, '--work-dir', str(work_dir), '--metric', 'mIoU', *options])
        return (work_dir / 'comparison.md').read_text()

    return call


def rows(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def count(tmp_path, file):
    return {
        str(p.parent.relative_to(tmp_path / 'out')): len(p.read_text())
        for p in tmp_path.rglob(file)
    }


FULL = [
    *('--grid', f'{WEIGHT}=0.5,5', '--tune-seeds', '100', '101', '--seeds', '0', '1', '2'),
    *(
        '--report-split',
        'test',
        '--contrast',
        'diffkd',
        'fitnet',
        '--contrast',
        'diffkd',
        'student',
    ),
    *('--relative-to', 'student'),
]


def test_tuned_on_one_split_reported_on_another(study, tmp_path, capsys):
    table = study('student fitnet diffkd', *FULL)
    head, _, student, fitnet, diffkd = table.splitlines()[:5]
    assert 'mIoU, test (%) | validation (%)' in head
    # validation 40, 41, 42 + test 10 less; the tester knows nothing of configs
    assert student.startswith('| student | 31.00 ± 1.00 | 41.00 ± 1.00 | 3 | 0.25 | 0.500 | 1.00 |')
    assert fitnet.startswith('| fitnet/loss_weight=0.5 | 31.00 ± 1.00 | 52.00 ± 2.00 |')
    assert diffkd.startswith('| diffkd/loss_weight=5 | 31.00 ± 1.00 | 61.00 ± 1.00 |')
    assert '| 0.750 | 1.50 | 1.0 |' in diffkd  # 3 · (2 · 9 + 2 · 0.75) s
    assert '| **diffkd/loss_weight=5** | 160.50 ± 0.71 | 100 101 |' in table
    assert '| diffkd/loss_weight=0.5 | 156.00 ± 0.71 | 100 101 |' in table
    assert (
        'Picked: student, fitnet/loss_weight=0.5, diffkd/loss_weight=5' in capsys.readouterr().out
    )
    started = count(tmp_path, 'starts')
    assert set(started.values()) == {1}
    grid = {
        f'{x}/loss_weight={w}/seed_{s}'
        for x in ('fitnet', 'diffkd')
        for w in ('0.5', '5')
        for s in (100, 101)
    }
    final = {
        f'{x}/seed_{s}'
        for x in ('student', 'fitnet/loss_weight=0.5', 'diffkd/loss_weight=5')
        for s in range(3)
    }
    assert set(started) == grid | final
    assert set(count(tmp_path, 'tests')) == final
    for picture in ('arms.png', 'curves.png'):
        assert (tmp_path / 'out' / picture).read_bytes().startswith(b'\x89PNG')
    study('student fitnet diffkd', *FULL)  # nothing is trained or tested again
    assert count(tmp_path, 'starts') == started
    assert set(count(tmp_path, 'tests').values()) == {len('test')}


def test_contrasts_are_paired_by_seed(study, tmp_path):
    table = study('fitnet diffkd', '--seeds', '0', '1', '2', '--contrast', 'diffkd', 'fitnet')
    # 55, 56, 57 and 49.5, 51.5, 53.5
    differences = [5.5, 4.5, 3.5]
    low, high = stats.t.interval(0.95, 2, loc=4.5, scale=stats.sem(differences))
    assert f'| diffkd − fitnet | +4.50 | {low:+.2f} to {high:+.2f} | 3 |' in table
    (row,) = rows(tmp_path / 'out/contrasts.csv')
    assert (row['first'], row['second'], row['split']) == ('diffkd', 'fitnet', 'val')
    assert [float(row[f'seed_{s}']) for s in range(3)] == differences
    assert [float(row['low']), float(row['high'])] == pytest.approx([low, high])


def test_record_of_all_runs(study, tmp_path):
    study('student diffkd', *FULL[:8], '--report-split', 'test')
    found = rows(tmp_path / 'out/runs.csv')
    assert len(found) == 4 + 2 * 2 * 2  # tuning; two arms, two seeds, two splits
    assert found[0] == dict(
        arm='diffkd', options=f'{WEIGHT}=0.5', seed='100', split='validation', metric='mIoU',
        value='155.5', seconds='19.5',
    )  # fmt: skip
    test = [row for row in found if row['split'] == 'test']
    assert [(row['arm'], row['seed'], row['value']) for row in test] == [
        ('student', '0', '30'),
        ('student', '1', '31'),
        ('diffkd', '0', '30'),
        ('diffkd', '1', '31'),
    ]


def test_a_grid_without_tuning_is_a_table_of_all_values(study):
    table = study('student fitnet', '--grid', f'{WEIGHT}=0.5,5')
    names = [line.split(' | ')[0] for line in table.splitlines()[2:]]
    assert names == ['| student', '| fitnet/loss_weight=0.5', '| fitnet/loss_weight=5']


def test_runs_of_this_layout_that_others_made_are_finished(study, tmp_path):
    study('fitnet', '--grid', f'{WEIGHT}=0.5,5')
    folders = list((tmp_path / 'out/fitnet').glob('*/seed_0'))
    for folder in folders:
        for mark in ('started.json', 'finished.json'):
            (folder / mark).unlink()
    table = study('fitnet', '--grid', f'{WEIGHT}=0.5,5')
    assert len(folders) == 2 and set(count(tmp_path, 'starts').values()) == {1}
    assert '| fitnet/loss_weight=5 | 45.50 |' in table


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
        'import os, time\nprint(os.getpid(), flush=True)\ntime.sleep(120)\n'
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
        deadline = time.time() + 60
        while not (log.exists() and log.read_text()):
            assert time.time() < deadline and process.poll() is None
            time.sleep(0.1)
        process.send_signal(signal.SIGKILL)
    training = int(log.read_text())
    deadline = time.time() + 20
    while is_alive(training):
        assert time.time() < deadline
        time.sleep(0.1)


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
        ({}, 'bad.py: there is no such config file'),
        ({'bad': 'x = = 1'}, 'bad.py cannot be read: SyntaxError'),
        ({'bad': 'raise ValueError("why")'}, 'bad.py cannot be read: ValueError: why'),
        ({'bad': BASE.format('other')}, 'bad.py cannot be read: FileNotFoundError: .*other.py'),
        (
            {'bad': BASE.format('other'), 'other': BASE.format('bad')},
            'bad.py: it inherits from its',
        ),
        ({'bad': 'x = 1'}, 'bad.py: it has no `model`'),
        ({'bad': 'model = dict(type="Nothing")'}, 'bad.py: its model cannot be built: .*Nothing'),
    ],
    ids=['missing', 'broken', 'raises', 'base missing', 'circular', 'no model', 'wrong model'],
)
def test_bad_configs(tmp_path, files, message):
    for name, text in files.items():
        (tmp_path / f'{name}.py').write_text(text)
    with pytest.raises(SystemExit, match=message):
        compare.main([str(tmp_path / 'bad.py'), '--work-dir', str(tmp_path / 'out')])
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize(
    'options, message',
    [
        (['--jobs', '0'], '--jobs: 0 is not a number of 1 or more'),
        (['--jobs', '-1'], '--jobs: -1 is not a number of 1 or more'),
        (['--jobs', 'x'], '--jobs: x is not a number of 1 or more'),
        (['--seeds', '1', '2', '1'], '--seeds names 1 more than once'),
        (['--tune-seeds', '1'], '--tune-seeds picks from a --grid; there is none'),
        (['--grid', 'a=1,2', '--tune-seeds', '0'], '--seeds and --tune-seeds share 0'),
        (['--grid', f'{WEIGHT}=1,1'], f'--grid {WEIGHT}=1,1: expected KEY=VALUE'),
        (['--grid', WEIGHT], f'--grid {WEIGHT}: expected KEY=VALUE'),
        (['--grid', 'load_from=a/b,c'], 'a value names a folder; no slash'),
        (['--grid', 'model.points.nothing.loss=1,2'], 'none of the configs has a place for it'),
        (['--cfg-options', 'x'], '--cfg-options x: expected KEY=VALUE'),
        (['--cfg-options', 'randomness.seed=1'], 'give the seeds by --seeds'),
        (['--cfg-options', 'base.x=1'], r'student.py: --cfg-options base.x=1 do not fit it'),
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


def test_a_grid_s_values_may_be_lists():
    assert runs.parse_grid(['a.b=[8,16],(1,2),3', 'c=x']) == {
        'a.b': ['[8,16]', '(1,2)', '3'],
        'c': ['x'],
    }


@pytest.mark.parametrize('freedom', [1, 2, 3, 4, 9, 40])
@pytest.mark.parametrize('level', [0.5, 0.95, 0.99])
def test_t_quantile(freedom, level):
    expected = stats.t.ppf((1 + level) / 2, freedom)
    assert intervals.t_quantile(freedom, level) == pytest.approx(expected, rel=1e-9)


def test_validations_without_a_date_end_a_training_that_is_not_logged_to_its_end():
    cfg = Config(dict(train_cfg=dict(max_iters=1020), default_hooks=dict(logger=dict(interval=50))))
    assert scalars.is_last(dict(step=1000, undated=True), cfg)
    assert not scalars.is_last(dict(step=1000), cfg)
    assert not scalars.is_last(dict(step=950, undated=True), cfg)
