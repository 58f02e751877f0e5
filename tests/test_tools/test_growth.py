"""How a step grows, on a model too small to be worth measuring."""

import csv
import sys
import time
from pathlib import Path

import pytest
import tiny
import torch
from mmengine.config import Config

from diffkd_mm.analysis import growth as measuring
from diffkd_mm.analysis.timing import Phases

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / 'tools' / 'analysis_tools'))

import growth  # noqa: E402


@pytest.fixture
def config(tmp_path):
    """A distillation whose teacher has no checkpoint and computes in half precision."""
    model = tiny.distiller('missing.pth')
    model['teacher']['dtype'] = 'bfloat16'
    cfg = Config(
        dict(
            default_scope='mmdet',
            model=model,
            optim_wrapper=dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.01)),
        )
    )
    cfg.dump(tmp_path / 'config.py')
    yield str(tmp_path / 'config.py')
    torch.set_flush_denormal(False)


def test_every_axis(config, tmp_path, monkeypatch, capsys):
    few = dict(SIZES=(1.0, 1.1, 2.0), BATCHES=(1, 2), EVALUATIONS=(1, 2, 4), POINTS=(1, 2, 3))
    for name, values in dict(few, CHANNELS=(0.5, 1.0)).items():
        monkeypatch.setattr(measuring, name, values)
    out = tmp_path / 'out'
    options = ['--shape', '64', '64', '--batch-size', '2', '--iters', '1', '--out', str(out)]
    monkeypatch.setattr(Phases, 'clock', Phases.clock)  # put back behind the test
    growth.main([config, *options, '--cpu-time'])
    assert Phases.clock is time.process_time
    with (out / 'growth.csv').open() as file:
        rows = list(csv.DictReader(file))
    assert (out / 'growth.png').read_bytes()[:4] == b'\x89PNG'
    assert 'evaluations' in capsys.readouterr().out
    found = {
        axis: {
            int(x['value']): (int(x['macs']), int(x['saved_bytes']))
            for x in rows
            if x['axis'] == axis
        }
        for axis in measuring.AXES
    }
    assert {axis: list(values) for axis, values in found.items()} == dict(
        size=[64 * 64, 128 * 128],  # 1.1 times 64 is 64 as well
        batch=[2, 4],
        levels=[1, 2, 3],
        channels=[12, 24],
        evaluations=[1, 2, 4],
        points=[1, 2, 3],
    )
    macs = {axis: [x for x, _ in values.values()] for axis, values in found.items()}
    for axis, values in found.items():
        stored = [y for _, y in values.values()]
        assert macs[axis] == sorted(set(macs[axis])) and stored == sorted(set(stored)), axis
    assert macs['batch'][1] == 2 * macs['batch'][0]
    one, two, four = macs['evaluations']
    assert four - two == 2 * (two - one)
    one, two, three = macs['points']
    assert three - two == two - one
    # What is configured: three levels, five evaluations and a single such point, of two images.
    assert macs['levels'][2] == macs['batch'][0] == macs['size'][0]


def test_without_diffusion(config):
    options = ['--cfg-options', 'model.points.fpn.connector.type=ConvConnector']
    with pytest.raises(SystemExit, match='no point of the config has a DiffKDConnector'):
        growth.main([config, *options])
