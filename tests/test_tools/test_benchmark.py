"""The benchmarks measure what they say, on models too small to be worth measuring."""

import json
import sys
import time
from pathlib import Path

import pytest
import tiny
import torch
from mmdet.models import RetinaNet
from mmengine.config import Config

from diffkd_mm.analysis import connector_speed, models, steps, timing
from diffkd_mm.compat import RUNS_ALL_ON_META
from diffkd_mm.connectors import ConvConnector, DiffKDConnector
from diffkd_mm.distillers import Distiller

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / 'tools' / 'analysis_tools'))

import benchmark  # noqa: E402
import connector_benchmark  # noqa: E402


@pytest.fixture
def config(tmp_path):
    """A distillation whose teacher has no checkpoint."""
    cfg = Config(
        dict(
            default_scope='mmdet',
            model=tiny.distiller('missing.pth'),
            optim_wrapper=dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.01)),
        )
    )
    path = tmp_path / 'config.py'
    cfg.dump(path)
    return path


@pytest.fixture(autouse=True)
def denormals():
    yield
    torch.set_flush_denormal(False)


@pytest.mark.parametrize('options', [[], ['--amp']], ids=str)
def test_parts_of_a_step(config, tmp_path, capsys, options):
    out = tmp_path / 'folder' / 'out.json'
    arguments = [str(config), '--shape', '64', '96', '--batch-size', '2', '--iters', '2']
    benchmark.main([*arguments, '--json', str(out), *options])
    result = json.loads(out.read_text())
    seconds = result['seconds']
    assert all(seconds[phase] > 0 for phase in timing.PHASES)
    assert sum(seconds[phase] for phase in timing.PHASES) <= 1.5 * seconds['step']
    assert all(result['peak_bytes'][phase] > 1e6 for phase in timing.PHASES)
    assert result['saved_bytes'] > 1e5
    printed = capsys.readouterr().out
    assert all(phase in printed for phase in (*timing.PHASES, 'step'))


def test_overhead(config, tmp_path):
    out = tmp_path / 'out.json'
    benchmark.main(
        [str(config), '--shape', '64', '64', '--iters', '2', '--overhead', '--json', str(out)]
    )
    result = json.loads(out.read_text())
    assert 0 < result['ratio_min'] <= result['ratio'] <= result['ratio_max']


def test_teacher_speed(config, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(torch, 'compile', lambda forward, dynamic: forward)
    out = tmp_path / 'out.json'
    arguments = [str(config), '--shape', '64', '64', '--iters', '2', '--json', str(out)]
    benchmark.main([*arguments, '--teacher-speed', 'bfloat16', 'compiled'])
    built, float32, bfloat16, *compiled = json.loads(out.read_text())['rows']
    assert [x['variant'] for x in compiled] == ['float32, compiled', 'bfloat16, compiled']
    assert (built['ratio'], built['difference']) == (1, 0)
    assert 0 < float32['ratio_min'] <= float32['ratio'] <= float32['ratio_max']
    assert 0 < float32['difference'] < 1e-4 < bfloat16['difference']
    assert bfloat16['weight_bytes'] < 0.55 * built['weight_bytes']
    assert 'as built' in capsys.readouterr().out


@pytest.fixture
def slow(monkeypatch):
    """Makes a function take so many seconds, on a clock that knows of nothing else."""
    now = [0.0]
    monkeypatch.setattr(timing.Phases, 'now', lambda self: now[0])

    def slow(seconds, function):
        def timed(*args, **kwargs):
            now[0] += seconds
            return function(*args, **kwargs)

        return timed

    run_teacher = Distiller.run_teacher
    monkeypatch.setattr(Distiller, 'run_teacher', slow(2.0, run_teacher))
    return slow


def test_segmentors_are_not_padded_to_their_crop(monkeypatch):
    """CamVid's crops have 112×160 pixels."""
    shapes = []
    random_batch = steps.random_batch

    def spied(student, *args):
        student.backbone.register_forward_pre_hook(
            lambda module, inputs: shapes.append(tuple(inputs[0].shape))
        )
        return random_batch(student, *args)

    monkeypatch.setattr(steps, 'random_batch', spied)
    config = ROOT / 'configs' / 'camvid' / 'deeplabv3_camvid_diffkd.py'
    benchmark.main([str(config), '--shape', '64', '96', '--batch-size', '2', '--iters', '1'])
    assert set(shapes) == {(2, 3, 64, 96)}


def test_points(config, tmp_path, monkeypatch, slow):
    """They add a second to the student's three; the teacher's two do not count."""
    loss, connector = RetinaNet.loss, DiffKDConnector.forward
    monkeypatch.setattr(RetinaNet, 'loss', slow(3.0, loss))
    monkeypatch.setattr(DiffKDConnector, 'forward', slow(1.0, connector))
    out = tmp_path / 'out.json'
    benchmark.main(
        [str(config), '--shape', '64', '64', '--iters', '2', '--points', '--json', str(out)]
    )
    result = json.loads(out.read_text())
    assert (result['student_seconds'], result['distiller_seconds']) == (3, 4)
    assert result['ratio'] == result['ratio_min'] == result['ratio_max'] == pytest.approx(4 / 3)


def test_costs(config, tmp_path, monkeypatch, slow, capsys):
    """Student 3 s, teacher 2 s, FitNet's connector 0.5 s, DiffKD's 1.5 s."""
    for owner, seconds in ((RetinaNet, 3.0), (ConvConnector, 0.5), (DiffKDConnector, 1.5)):
        name = 'loss' if owner is RetinaNet else 'forward'
        monkeypatch.setattr(owner, name, slow(seconds, getattr(owner, name)))
    out = tmp_path / 'out.json'
    benchmark.main(
        [str(config), '--shape', '64', '64', '--iters', '3', '--costs', '--json', str(out)]
    )
    rows = json.loads(out.read_text())['rows']
    assert [x['variant'] for x in rows] == ['student', 'student, teacher', 'FitNet', 'DiffKD']
    assert [x['seconds'] for x in rows] == [3, 5, 5.5, 6.5]
    assert [x['added_seconds'] for x in rows] == [3, 2, 0.5, 1]
    for x in rows:
        assert x['ratio'] == x['ratio_min'] == x['ratio_max'] == pytest.approx(x['seconds'] / 5.5)
    assert '1.182' in capsys.readouterr().out


def test_costs_without_diffusion(config):
    options = ['--cfg-options', 'model.points.fpn.connector.type=ConvConnector']
    with pytest.raises(SystemExit, match='no point of the config has a DiffKDConnector'):
        benchmark.main([str(config), '--costs', *options])


def test_teacher(config, tmp_path, monkeypatch, capsys, slow):
    """The numbers are those of what they are named after."""
    use_teacher = Distiller.use_teacher

    def slow_teacher(self, model, name):
        use_teacher(self, model, name)
        model.forward = slow(8.0, model.forward)
        self.student.forward = slow(3.0, self.student.forward)

    monkeypatch.setattr(Distiller, 'use_teacher', slow_teacher)
    out = tmp_path / 'out.json'
    benchmark.main(
        [str(config), '--shape', '64', '64', '--iters', '2', '--teacher', '--json', str(out)]
    )
    result = json.loads(out.read_text())
    assert (result['teacher_seconds'], result['whole_seconds']) == (2, 8)
    assert result['teacher_ratio'] == 0.25 and result['teacher_share'] == 0.4
    assert '0.250' in capsys.readouterr().out


def test_cpu_time_stands_still_while_the_process_sleeps(config, tmp_path, monkeypatch):
    monkeypatch.setattr(timing.Phases, 'clock', timing.Phases.clock)
    run_teacher = Distiller.run_teacher

    def sleeping(*args):
        time.sleep(3)
        return run_teacher(*args)

    monkeypatch.setattr(Distiller, 'run_teacher', sleeping)
    out = tmp_path / 'out.json'
    options = ['--shape', '64', '64', '--iters', '1', '--cpu-time', '--json', str(out)]
    benchmark.main([str(config), *options])
    assert 0 < json.loads(out.read_text())['seconds']['teacher'] < 3


def test_options_override_the_config(config, capsys):
    benchmark.main(
        [str(config), '--shape', '64', '64', '--iters', '1', '--cfg-options']
        + ['model.points.fpn.connector.noise_adapter=None']
    )
    assert 'connectors' in capsys.readouterr().out


def test_saved_storages_counts_each_once():
    weight = torch.randn(8, 8, requires_grad=True)
    x = torch.randn(16, 8, requires_grad=True)
    with timing.saved_storages([weight]) as storages:
        ((x @ weight) * x).sum()  # saves x twice, the product once
    assert sum(storages.values()) == 2 * 16 * 8 * 4


@pytest.mark.parametrize('package', ['mmseg', 'mmpretrain'])
def test_batches_of_other_packages(package):
    from mmengine.registry import MODELS, init_default_scope

    init_default_scope(package)
    backbone = dict(type='ResNet', depth=18, num_stages=1, out_indices=(0,))
    backbone.update(strides=(1,), dilations=(1,))
    if package == 'mmseg':
        model = dict(
            type='EncoderDecoder',
            data_preprocessor=dict(type='SegDataPreProcessor', size=(32, 32)),
            backbone=backbone,
            decode_head=dict(
                type='FCNHead', in_channels=64, channels=4, num_classes=3, norm_cfg=dict(type='BN')
            ),
        )
    else:
        model = dict(
            type='ImageClassifier',
            data_preprocessor=dict(type='ClsDataPreprocessor', mean=[0.0] * 3, std=[1.0] * 3),
            backbone=backbone,
            neck=dict(type='GlobalAveragePooling'),
            head=dict(type='LinearClsHead', num_classes=3, in_channels=64),
        )
    student = MODELS.build(model)
    batch = models.random_batch(student, 2, (32, 32))
    losses = student(**student.data_preprocessor(batch, True), mode='loss')
    assert torch.isfinite(student.parse_losses(losses)[0])


@pytest.mark.parametrize('options', [['--small'], ['--demo', '--cpu-time']], ids=str)
def test_connector_benchmark(tmp_path, monkeypatch, capsys, options):
    name = options[0].removeprefix('--').upper()
    monkeypatch.setattr(connector_speed, name, (2, 8, [(4, 4), (2, 2)]))
    out = tmp_path / 'out.json'
    connector_benchmark.main([*options, '--checkpointing', '--iters', '2', '--json', str(out)])
    rows = json.loads(out.read_text())
    assert [row['variant'] for row in rows] == ['plain', 'connector', 'connector, with_cp']
    assert rows[0]['ratio'] == 1 and all(row['seconds'] > 0 for row in rows)
    assert rows[2]['saved_bytes'] < rows[1]['saved_bytes'] < rows[0]['saved_bytes']
    for path in ('cpu', 'gpu') if RUNS_ALL_ON_META else ('cpu',):
        assert rows[1][f'operators_{path}'] < rows[2][f'operators_{path}']
    assert 'with_cp' in capsys.readouterr().out
