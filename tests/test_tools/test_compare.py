"""tools/compare.py on made-up logs and with a trainer that only pretends."""

import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import patience
import pytest
from mmengine.config import Config

from diffkd_mm.errors import DistillationError
from diffkd_mm.experiments import results, runs, scalars
from diffkd_mm.experiments.fingerprints import fingerprint

ROOT = Path(__file__).parents[2]
TOOLS = str(ROOT / 'tools')
sys.path.insert(0, TOOLS)

import compare as tool  # noqa: E402

METRIC = 'coco/bbox_mAP'
LENGTH = 'train_cfg = dict(max_iters=2)\n'

# Logs two validations. Fails where the config says so, unless it is resuming; counts its starts.
TRAINER = """
import json, pathlib, sys
config = pathlib.Path(sys.argv[1]).read_text()
work_dir = pathlib.Path(sys.argv[sys.argv.index('--work-dir') + 1])
options = dict(pair.split('=') for pair in sys.argv[sys.argv.index('--cfg-options') + 1:])
seed = int(options['randomness.seed'])
starts = work_dir / 'starts'
starts.write_text((starts.read_text() if starts.exists() else '') + '.')
folder = work_dir / f'part_{len(starts.read_text())}' / 'vis_data'
folder.mkdir(parents=True)
entries = [
    {'loss': 1.0, 'time': 9.0, 'step': 1},
    {'loss': 1.0, 'time': 0.25, 'step': 2},
    {'coco/bbox_mAP': 0.3, 'time': 0.1, 'step': 1},
    {'coco/bbox_mAP': 0.2 + seed / 10, 'time': 0.1, 'step': 2},
]
unlucky = f'fail_seed = {seed}\\n' in config
lines = [json.dumps(x) + '\\n' for x in entries[: 3 if unlucky else 4]]
(folder / 'scalars.json').write_text(''.join(lines))
if unlucky:
    raise SystemExit('out of luck')
"""


@pytest.fixture
def compare(monkeypatch, tmp_path):
    """The tool with the pretended trainer."""
    (tmp_path / 'train.py').write_text(TRAINER)
    monkeypatch.setattr(tool, 'TOOLS', tmp_path)
    monkeypatch.setattr(runs, 'student_parameters', lambda cfg: 0.25)
    return tool


@pytest.fixture
def run(compare, monkeypatch, tmp_path):
    """Calls the tool with two configs and returns its table."""
    for name in ('alone', 'taught'):
        (tmp_path / f'{name}.py').write_text(f'value = 1\n{LENGTH}')

    def call(*options):
        configs = [str(tmp_path / f'{name}.py') for name in ('alone', 'taught')]
        arguments = ['compare.py', *configs, '--work-dir', str(tmp_path / 'out'), *options]
        monkeypatch.setattr(sys, 'argv', arguments)
        try:
            compare.main()
        finally:
            table = tmp_path / 'out/comparison.md'
        return table.read_text()

    return call


def starts(tmp_path, name, seed):
    return len((tmp_path / f'out/{name}/seed_{seed}/starts').read_text())


def test_table_over_seeds(run, tmp_path, capsys):
    table = run('--seeds', '0', '1', '2')
    # last validation 20, 30, 40; best 30, 30, 40
    assert '| alone | 30.00 ± 10.00 | 33.33 ± 5.77 | 3 | 0.25 | 0.250 |' in table
    with (tmp_path / 'out/comparison.csv').open() as file:
        rows = list(csv.DictReader(file))
    assert [row['config'] for row in rows] == ['alone', 'taught']
    assert float(rows[0]['mean']) == pytest.approx(30)
    assert float(rows[0]['deviation']) == pytest.approx(10)
    assert [float(rows[0][f'seed_{seed}']) for seed in range(3)] == pytest.approx([20, 30, 40])
    assert (tmp_path / 'out/curves.png').read_bytes().startswith(b'\x89PNG')
    output = capsys.readouterr().out
    assert '[1/6] alone seed 0: iteration 1 of 2  eta 0:00:09  loss 1.0' in output
    assert '[6/6] taught seed 2: evaluated: coco/bbox_mAP 0.4' in output


def test_one_seed_has_no_deviation(run):
    assert '| alone | 30.00 | 30.00 | 1 | 0.25 | 0.250 |' in run('--seeds', '1')


def test_finished_runs_are_kept_and_new_seeds_added(run, tmp_path):
    run('--seeds', '0')
    table = run('--seeds', '0', '1')
    assert '| alone | 25.00 ± 7.07 |' in table
    assert starts(tmp_path, 'alone', 0) == starts(tmp_path, 'alone', 1) == 1


def test_a_changed_config_starts_anew(run, tmp_path, capsys):
    run('--seeds', '0')
    (tmp_path / 'taught.py').write_text(f'value = 2\n{LENGTH}')
    run('--seeds', '0')
    assert starts(tmp_path, 'taught', 0) == 1
    assert len(list((tmp_path / 'out/taught').glob('seed_0.*/starts'))) == 1
    assert len(list((tmp_path / 'out/alone').iterdir())) == 1
    assert 'taught seed 0: the config has changed' in capsys.readouterr().out


def test_changed_options_start_anew(run, tmp_path):
    run('--seeds', '0')
    run('--seeds', '0', '--cfg-options', 'value=3')
    assert len(list((tmp_path / 'out/alone').glob('seed_0.*'))) == 1


def test_a_new_teacher_starts_anew(tmp_path):
    checkpoint = tmp_path / 'teacher.pth'
    cfg = Config(dict(model=dict(teacher=dict(checkpoint=str(checkpoint)))))
    prints = set()
    for weights in (None, b'first', b'second'):
        if weights:
            checkpoint.write_bytes(weights)
        prints.add(fingerprint(cfg))
    assert len(prints) == 3


def test_other_weights_of_a_backbone_start_anew(tmp_path):
    weights = tmp_path / 'backbone.pth'
    init_cfg = dict(type='Pretrained', checkpoint=str(weights))
    cfg = Config(dict(model=dict(student=dict(backbone=dict(init_cfg=[init_cfg])))))
    prints = set()
    for content in (b'first', b'second'):
        weights.write_bytes(content)
        prints.add(fingerprint(cfg))
    assert len(prints) == 2


@pytest.mark.parametrize('jobs', ['1', '2'])
def test_a_failure_is_told_and_the_rest_goes_on(run, tmp_path, capsys, jobs):
    (tmp_path / 'alone.py').write_text(f'fail_seed = 0\n{LENGTH}')
    with pytest.raises(SystemExit, match='1 of 4 runs failed'):
        run('--seeds', '0', '1', '--jobs', jobs)
    table = (tmp_path / 'out/comparison.md').read_text()
    assert '| alone | 30.00 | 30.00 | 1 (missing: 0) | 0.25 | 0.250 |' in table
    assert '| taught | 25.00 ± 7.07 |' in table
    output = capsys.readouterr().out
    assert 'alone seed 0: FAILED' in output and 'out of luck' in output
    # The failed run, and no other, is taken up again.
    with pytest.raises(SystemExit):
        run('--seeds', '0', '1')
    assert starts(tmp_path, 'alone', 0) == 2 and starts(tmp_path, 'taught', 0) == 1


def test_nothing_but_failures_still_makes_a_table(run, tmp_path):
    for name in ('alone', 'taught'):
        (tmp_path / f'{name}.py').write_text(f'fail_seed = 0\n{LENGTH}')
    with pytest.raises(SystemExit, match='2 of 2 runs failed'):
        run('--seeds', '0')
    table = (tmp_path / 'out/comparison.md').read_text()
    assert '| alone | – | – | 0 (missing: 0) | 0.25 | – |' in table


def test_two_configs_of_one_name_are_refused(tmp_path):
    with pytest.raises(DistillationError, match='Two configs of one name: a, a'):
        runs.plan_arms([tmp_path / 'a.py', tmp_path / 'b' / 'a.py'], [], {})


def test_resumed_parts_are_not_counted_twice(tmp_path):
    parts = {
        '20250101_000000': [(1, 1.0), (2, 1.0), (3, 7.0)],
        '20250102_000000': [(3, 2.0), (4, 2.0)],  # step 3 was lost, and is done again
    }
    for name, times in parts.items():
        folder = tmp_path / name / 'vis_data'
        folder.mkdir(parents=True)
        entries = [dict(loss=0.1, time=time, step=step) for step, time in times]
        entries += [{METRIC: time / 10, 'step': step} for step, time in times if step >= 3]
        (folder / 'scalars.json').write_text('\n'.join(map(json.dumps, entries)))
    entries = scalars.read_scalars(tmp_path)
    trained = {entry['step']: entry['time'] for entry in entries if 'loss' in entry}
    assert trained == {1: 1.0, 2: 1.0, 3: 2.0, 4: 2.0}
    assert {e['step']: e[METRIC] for e in entries if METRIC in e} == {3: 0.2, 4: 0.2}


def test_a_point_may_be_called_teacher():
    trained = {'loss': 1.0, 'teacher.loss_kd': 0.5, 'time': 0.1, 'step': 10}
    validated = [{f'{name}/{METRIC}': 0.4, 'step': 0} for name in ('teacher', 'teacher.large')]
    lines = map(json.dumps, [*validated, trained])
    assert list(scalars.parse_lines(lines)) == [trained]


def test_validations_that_are_not_dated_are_placed_by_iteration(tmp_path):
    folder = tmp_path / 'part/vis_data'
    folder.mkdir(parents=True)
    entries = []
    for step in (50, 100):
        entries += [dict(loss=0.1, time=1.0, step=step), {METRIC: step / 1000, 'step': 0}]
    (folder / 'scalars.json').write_text('\n'.join(map(json.dumps, entries)))
    curve = {e['step']: e[METRIC] for e in scalars.read_scalars(tmp_path) if METRIC in e}
    assert curve == {50: 0.05, 100: 0.1}


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_interrupting_ends_the_training_too(tmp_path, number):
    (tmp_path / 'train.py').write_text(
        f'import os, time\nprint(os.getpid(), flush=True)\ntime.sleep({patience.SECONDS})\n'
    )
    (tmp_path / 'alone.py').write_text('')
    call = (
        f'import sys, pathlib; sys.path.insert(0, {TOOLS!r}); import compare; '
        f'compare.TOOLS = pathlib.Path({str(tmp_path)!r}); '
        'from diffkd_mm.experiments import runs; runs.student_parameters = lambda cfg: 0; '
        'compare.main()'
    )
    log = tmp_path / 'out/alone/seed_0/train.log'
    with subprocess.Popen(
        [sys.executable, '-c', call, str(tmp_path / 'alone.py'), '--work-dir', tmp_path / 'out'],
        stderr=subprocess.PIPE,
        text=True,
        # A shell that runs the tests in the background has them ignore SIGINT, and so would this.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        patience.wait_until(lambda: process.poll() is not None or log.exists() and log.read_text())
        process.send_signal(number)
        _, message = process.communicate(timeout=patience.SECONDS)
    assert 'Interrupted; the same command goes on from here.' in message
    with pytest.raises(ProcessLookupError):
        os.kill(int(log.read_text()), 0)


def test_only_metrics_of_mmdetection_are_fractions():
    assert results.percent([0.5], 'coco/bbox_mAP') == [50.0]
    assert results.percent([0.5], 'pascal_voc/mAP') == [50.0]
    assert results.percent([0.5], 'cityscapes/mAP') == [50.0]
    assert results.percent([77.8], 'mIoU') == [77.8]
    assert results.percent([93.2], 'accuracy/top1') == [93.2]


def test_parameters_are_those_of_the_tested_network():
    student, distilled, branched = (
        runs.student_parameters(Config.fromfile(ROOT / 'configs' / name))
        for name in (
            'demo/retinanet_digits_student.py',
            'demo/retinanet_digits_diffkd.py',
            'kdiffusion/digits/retinanet_digits_average.py',
        )
    )
    assert student == distilled == branched
    assert 0.2 < student < 0.4  # millions
