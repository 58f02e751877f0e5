"""tools/reproduce.py on made-up runs, and with a trainer that only pretends."""

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pretended
import pytest
import reproduce as tool
from mmengine.config import Config

from diffkd_mm.experiments import reproduction
from diffkd_mm.experiments.paper_tables import indexed_models, read_table, table_names

ROOT = Path(__file__).parents[2]
TABLES = """
'6':
  title: Streets
  metrics: {mIoU val: mIoU, mIoU test: null}
  rows: {alone: student alone, taught: DiffKD, other: not in the paper}
'9':
  title: Streets again
  metrics: {top-1: mIoU}
  deviation: true
  rows: {taught: DiffKD}
"""
METAFILE = """
Models:
  - {Name: alone, Config: configs/alone.py, Paper Results: [74.20, 73.45]}
  - {Name: taught, Config: configs/taught.py, Paper Results: [77.00, 0.24]}
  - {Name: other, Config: configs/other.py}
"""
CONFIG = """
base, seconds = 70, 0.5
train_cfg = dict(max_iters=4)
train_dataloader = dict(batch_size=2)
auto_scale_lr = dict(base_batch_size=16)
"""
# Notes what it is asked for, and runs the command that follows its options.
SRUN = """#!/bin/bash
echo "$GPUS $MASTER_PORT $*" >> "$(dirname "$0")/asked"
while [[ $1 == --* ]]; do shift; done
exec "$@"
"""


@pytest.fixture
def root(monkeypatch, tmp_path):
    """A repository with two tables."""
    (tmp_path / 'configs').mkdir()
    (tmp_path / 'configs/tables.yml').write_text(TABLES)
    (tmp_path / 'configs/metafile.yml').write_text(METAFILE)
    (tmp_path / 'model-index.yml').write_text('Import: [configs/metafile.yml]')
    for name in ('alone', 'taught', 'other'):
        (tmp_path / f'configs/{name}.py').write_text(CONFIG)
    tools = tmp_path / 'tools'
    tools.mkdir()
    (tools / 'train.py').write_text(pretended.TRAINER)
    (tools / 'test.py').write_text(pretended.TESTER)
    monkeypatch.setattr(tool, 'ROOT', tmp_path)
    monkeypatch.setattr(tool, 'TOOLS', tools)
    return tmp_path


@pytest.fixture
def call(root):
    """Calls the tool and returns its table and its CSV file's rows."""

    def run(*options, table='6', fails=None):
        arguments = ['--table', table, '--work-dir', str(root / 'out'), *options]
        if fails:
            with pytest.raises(SystemExit, match=fails):
                tool.main(arguments)
        else:
            tool.main(arguments)
        with (root / f'out/table_{table}.csv').open() as file:
            return (root / f'out/table_{table}.md').read_text(), list(csv.DictReader(file))

    return run


def log(folder, *entries):
    """A made-up log of a training."""
    folder = folder / '20241231_000000' / 'vis_data'
    folder.mkdir(parents=True)
    (folder / 'scalars.json').write_text('\n'.join(map(json.dumps, entries)))


def trained(step, **metrics):
    return dict(loss=1.0, time=0.1, step=step), dict(metrics, step=step)


def test_finished_runs_stand_beside_the_paper(call, root):
    log(root / 'out/alone/seed_0', *trained(4, mIoU=74.9))
    log(root / 'out/taught', dict(loss=1.0, time=0.1, step=2))  # as tools/train.py names the folder
    text, rows = call()
    alone, taught, other = (root / f'configs/{name}.py' for name in ('alone', 'taught', 'other'))
    assert f'| student alone | `{alone}` | 74.20 / 73.45 | 74.90 / – | +0.70 |' in text
    assert f'| DiffKD | `{taught}` | 77.00 / 0.24 | **unfinished: iteration 2 of 4** | – |' in text
    assert f'| not in the paper | `{other}` | – | **missing** | – |' in text
    assert '1 of 3 runs are finished.' in text
    assert f'{taught} 8 --work-dir {root}/out/taught --resume --cfg-options' in text
    assert f'{other} 8 --work-dir {root}/out/other/seed_0 --resume --cfg-options' in text
    assert str(alone) + ' 8' not in text
    assert [row['finished'] for row in rows] == ['1', '0', '0']
    assert [rows[0][f'mIoU val, {x}'] for x in ('paper', 'ours')] == ['74.20', '74.9']
    assert rows[0]['command'].startswith(f'{root}/tools/dist_train.sh {alone} 8 ')
    assert rows[1]['state'] == 'unfinished: iteration 2 of 4'


def test_several_seeds(call, root):
    for seed, value in ((0, 77.0), (1, 78.0)):
        log(root / f'out/taught/seed_{seed}', *trained(4, mIoU=value))
    text, rows = call('--seeds', '0', '1', '2', table='9')
    assert '| 77.00 ± 0.24 | 77.50 ± 0.71 (**seed 2 missing**) | +0.50 |' in text
    assert rows[0]['top-1, deviation'] == '0.7071' and rows[0]['missing'] == '2'


def test_a_run_of_another_config_is_not_taken(call, root):
    run_dir = root / 'out/alone/seed_0'
    log(run_dir, *trained(4, mIoU=74.9))
    (run_dir / 'started.json').write_text('{"fingerprint": "another"}')
    text, _ = call()
    assert '| **of another version of the config** | – |' in text
    assert '0 of 3 runs are finished.' in text


def test_run_trains_what_is_missing_and_goes_on(call, root):
    log(root / 'out/alone/seed_0', *trained(4, mIoU=74.9))
    log(root / 'out/taught', *trained(2, mIoU=60.0))
    (root / 'configs/other.py').write_text(f'{CONFIG}\nraise SystemError')
    text, _ = call('--run', '--gpus', '1', '--only', 'alone', 'taught')
    starts = {p.parent.name: p.read_text() for p in root.rglob('starts')}
    assert starts == {'taught': '.'}  # in the folder where it had begun
    assert '| 74.90 / – | +0.70 |' in text and '| 70.00 / – | -7.00 |' in text
    assert '2 of 2 runs are finished.' in text and 'shell' not in text
    call('--run', '--gpus', '1', '--only', 'alone', 'taught')
    assert {p.read_text() for p in root.rglob('starts')} == {'.'}


def test_a_failure_is_told_and_the_rest_goes_on(call, root):
    (root / 'configs/alone.py').write_text(CONFIG.replace('70', 'None'))
    text, _ = call('--run', '--gpus', '1', fails='1 of 3 runs failed.')
    assert '| **missing** | – |' in text and '| 70.00 / – | -7.00 |' in text


def test_slurm(call, root, monkeypatch, capfd):
    for script in ('launch.sh', 'slurm_train.sh', 'slurm_test.sh'):
        shutil.copy(ROOT / 'tools' / script, root / 'tools')
    (root / 'bin').mkdir()
    (root / 'bin/srun').write_text(SRUN)
    (root / 'bin/srun').chmod(0o755)
    monkeypatch.setenv('PATH', f'{root}/bin:/usr/bin:/bin')
    monkeypatch.delenv('PYTHON', raising=False)  # the launchers are to take this process's
    monkeypatch.delenv('MASTER_PORT', raising=False)
    monkeypatch.setenv('GPUS_PER_NODE', '4')
    (root / 'configs/taught.py').write_text(f'{CONFIG}\nvalidation_fails = True')
    text, _ = call(
        '--run', '--slurm', 'part', '--jobs', '2', '--only', 'alone', 'taught', fails='1'
    )
    asked = sorted((root / 'bin/asked').read_text().splitlines(), key=lambda x: x.split('name=')[1])
    assert [line.split()[0] for line in asked] == ['8', '8']
    assert (
        '--partition=part --job-name=alone --gres=gpu:4 --ntasks=8 --ntasks-per-node=4' in asked[0]
    )
    assert len({line.split()[1] for line in asked}) == 2  # jobs on one node have ports of their own
    assert f' {sys.executable} -u ' in asked[0]
    assert '--launcher slurm' in asked[0] and '| 70.00 / – | -4.20 |' in text
    # The training has ended; what is left is the validation that failed.
    text, _ = call('--run', '--slurm', 'part', '--only', 'taught')
    assert '--split val' in (root / 'bin/asked').read_text().splitlines()[-1]
    assert '| 40.00 / – | -37.00 |' in text
    assert 'GPUS=8 GPUS_PER_NODE=4 MASTER_PORT=' in call('--slurm', 'part', '--only', 'other')[0]


def test_another_number_of_gpus_keeps_the_batch(call):
    text, _ = call('--gpus', '4', '--only', 'alone')
    assert '4 --work-dir' in text and text.count('train_dataloader.batch_size=4') == 1


@pytest.mark.parametrize(
    'options, message',
    [
        (['--run', '--gpus', '3'], '--gpus 3: alone has batches of 16 in total.'),
        (['--run'], 'alone runs on 8 GPUs, this machine has 0; --gpus N keeps the batch'),
        (['--only', 'nobody'], '--only nobody: table 6 has alone, taught, other.'),
    ],
)
def test_mistakes(root, monkeypatch, options, message):
    monkeypatch.setattr('torch.cuda.device_count', lambda: 0)
    with pytest.raises(SystemExit, match=message):
        tool.main(['--table', '6', '--work-dir', str(root / 'out'), *options])


@pytest.mark.parametrize('options', [['--jobs', '2'], ['--seeds', '1', '1'], ['--gpus', '0']])
def test_options_that_do_not_fit(root, options, capsys):
    with pytest.raises(SystemExit, match='2'):
        tool.main(['--table', '6', *options])
    assert options[0] in capsys.readouterr().err


def test_launchers_leave_their_place(tmp_path):
    """What ends the launcher must end the training."""
    python = tmp_path / 'python'
    python.write_text('#!/bin/bash\necho $$\n')
    python.chmod(0o755)
    with subprocess.Popen(
        [ROOT / 'tools/dist_train.sh', 'config.py', '2'],
        env={'PYTHON': str(python), 'PATH': '/usr/bin:/bin'},
        stdout=subprocess.PIPE,
    ) as process:
        assert int(process.communicate()[0]) == process.pid


# --- the paper's tables --------------------------------------------------------------------------


def test_tables_are_those_of_the_paper():
    assert table_names(ROOT) == ['2', '3', '4', '5', '6', '7', '8', '9', '11', 'fig4', 'c2', 'c5']
    listed = set()
    for name in table_names(ROOT):
        table = read_table(ROOT, name)
        for row in table.rows:
            listed.add(row.name)
            assert row.config.is_file()
            # All or no figures; FGD's lack two.
            known = [figure is not None for figure in row.figures]
            assert all(known) or not any(known) or 'FGD' in row.label, (name, row)
            assert (row.deviation is not None) == (name == '9' and '(' in row.label)
    models = indexed_models(ROOT).values()
    figures = {
        x['Name'] for x in models if 'Paper Results' in x and x['In Collection'] != 'KDiffusion'
    }
    assert figures - listed == {'vgg13'}  # the CRD benchmark's, not the paper's


@pytest.mark.parametrize('name', table_names(ROOT))
def test_every_table_is_printed(name, tmp_path, monkeypatch, capsys):
    """With all its rows; their configs, which other tests read, are made up."""
    cfg = Config.fromstring(CONFIG, '.py')
    monkeypatch.setattr(reproduction, 'resolve', lambda config, options: cfg)
    tool.main(['--table', name, '--work-dir', str(tmp_path)])
    table = read_table(ROOT, name)
    heading = dict(fig4='Figure 4', c2='Appendix C.2', c5='Appendix C.5').get(name, f'Table {name}')
    printed = capsys.readouterr().out
    assert printed.startswith(f'\n{heading}: {table.title}')
    assert printed.count('**missing**') == len(table.rows) > 0
    with (tmp_path / f'table_{name}.csv').open() as file:
        rows = list(csv.DictReader(file))
    head = next(iter(table.metrics))
    assert [row[f'{head}, paper'] or None for row in rows] == [x.figures[0] for x in table.rows]
    assert all(f'/{row.config.name} 8 --work-dir' in printed for row in table.rows)


def test_a_real_table(tmp_path):
    folder = tmp_path / 'retinanet_r50_r101_diffkd_1x/seed_0'
    metrics = {f'coco/bbox_mAP{x}': y for x, y in (('', 0.395), ('_50', 0.583), ('_75', 0.421))}
    log(folder, dict(loss=1.0, time=0.1, step=90000, epoch=12), dict(metrics, step=12))
    command = ['reproduce', '--table', 'c2', '--work-dir', str(tmp_path)]  # by name, from anywhere
    subprocess.run(
        [sys.executable, '-m', 'diffkd_mm', *command],
        cwd=ROOT / 'tools',
        env={**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1'},
        check=True,
    )
    text = (tmp_path / 'table_c2.md').read_text()
    assert text.startswith('Appendix C.2: The light denoiser')
    assert '| 39.2 / 58.1 / 42.0 | 39.50 / 58.30 / 42.10 | +0.30 |' in text
    assert '| 39.1 / 58.0 / 41.9 | **missing** | – |' in text
    assert 'dist_train.sh' in text and 'diffkd_1x_unet.py 8 --work-dir' in text
