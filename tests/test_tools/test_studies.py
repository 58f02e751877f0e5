"""Studies by tools/compare.py: grids, tuning, test splits, contrasts; see pretended.py."""

import csv

import pytest
from pretended import TRAINER, WEIGHT, count
from scipy import stats

from diffkd_mm.experiments import intervals, runs


def rows(path):
    with path.open() as file:
        return list(csv.DictReader(file))


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


def test_options_of_the_report_leave_the_tuning_alone(study, tmp_path, capsys):
    grid = ['--grid', f'{WEIGHT}=0.5,5', '--tune-seeds', '100', '--seeds', '0', '1']
    options = ['seconds=3', 'train_cfg.kept=None']
    study('student diffkd', *grid, '--report-options', *options)
    pairs = {path.parent: path.read_text() for path in tmp_path.rglob('pairs')}
    found = {str(k.relative_to(tmp_path / 'out')): 'kept' in v for k, v in pairs.items()}
    assert found == {
        'student/seed_0': True,
        'student/seed_1': True,
        'diffkd/loss_weight=0.5/seed_100': False,
        'diffkd/loss_weight=5/seed_100': False,
        'diffkd/loss_weight=5/seed_0': True,
        'diffkd/loss_weight=5/seed_1': True,
    }
    report = tmp_path / 'out/diffkd/loss_weight=5/seed_1'
    assert pairs[report].split()[-3:] == [f'{WEIGHT}=5', *options]
    study('student diffkd', *grid, '--report-options', *options)  # nothing is trained again
    assert set(count(tmp_path, 'starts').values()) == {1}
    study('student diffkd', *grid, '--report-options', 'seconds=4')
    assert capsys.readouterr().out.count('the config has changed') == 4  # of the report's alone


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


def test_values_that_fail_are_not_picked(study, tmp_path, capsys):
    """A weight at which the loss becomes NaN, say."""
    failing = "if weight == 5:\n    raise SystemExit('loss is nan')\n"
    (tmp_path / 'train.py').write_text(
        TRAINER.replace('with (work_dir', failing + 'with (work_dir')
    )
    with pytest.raises(SystemExit, match='1 of 3 runs failed'):
        study('diffkd', '--grid', f'{WEIGHT}=0.5,5', '--tune-seeds', '7')
    table = (tmp_path / 'out/comparison.md').read_text()
    assert '| diffkd/loss_weight=0.5 | 55.50 |' in table
    assert '| diffkd/loss_weight=5 | – |  (failed: 7) |' in table
