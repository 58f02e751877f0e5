"""Several teachers, each for points of its own."""

import json
import sys
from copy import deepcopy
from pathlib import Path

import pytest
import tiny
import torch
import toy
from mmengine.config import Config
from mmengine.logging import MessageHub
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner

from diffkd_mm.distillers import distiller as distiller_file
from diffkd_mm.distillers import teacher_speed
from diffkd_mm.errors import DistillationError
from diffkd_mm.experiments.fingerprints import fingerprint

ROOT = Path(__file__).parents[2]
CAFFE = dict(mean=[103.5, 116.3, 123.7], std=[1.0, 1.0, 1.0], bgr_to_rgb=False)
WIDE = dict(base_channels=16, channels=32, **CAFFE)
CONV = dict(
    student='neck', teacher='neck', connector=dict(type='ConvConnector'), loss=dict(type='MSELoss')
)
POINTS = dict(
    fpn=dict(CONV, teacher_name='big'),
    reg=dict(tiny.REG_POINT, teacher_name='big'),
    wide_fpn=dict(CONV, teacher_name='wide'),
)


@pytest.fixture(scope='module')
def wide_checkpoint(tmp_path_factory):
    torch.manual_seed(8)
    path = tmp_path_factory.mktemp('wide') / 'wide.pth'
    model = tiny.build(tiny.retinanet(**WIDE))
    model.init_weights()
    torch.save(dict(state_dict=model.state_dict()), path)
    return path


@pytest.fixture
def config(teacher_checkpoint, wide_checkpoint):
    """A distiller with a teacher of 24 channels and a wider one of 32 and other images."""

    def teacher(checkpoint, **options):
        model = tiny.retinanet(**options)
        return dict(config=dict(model=model, default_scope='mmdet'), checkpoint=str(checkpoint))

    return dict(
        type='diffkd_mm.Distiller',
        student=tiny.retinanet(),
        teacher=dict(
            big=teacher(teacher_checkpoint, channels=24), wide=teacher(wide_checkpoint, **WIDE)
        ),
        points=deepcopy(POINTS),
    )


def built(cfg):
    torch.manual_seed(0)
    model = tiny.build(cfg)
    model.init_weights()
    return model.train()


def calls_of(model):
    """Notes which teacher runs how deep, from the second run on: the first one is repeated."""
    model.run_teacher(torch.linspace(-1, 1, 3 * 64 * 64).view(1, 3, 64, 64))
    calls = []
    for name, teacher in model.teachers.items():
        for path in ('backbone', 'bbox_head.retina_reg'):
            teacher.model.get_submodule(path).register_forward_hook(
                lambda *_, where=f'{name}.{path}': calls.append(where)
            )
    return calls


DEPTHS = ['big.backbone', *['big.bbox_head.retina_reg'] * 3]


def test_each_point_learns_from_its_own(config):
    """As from that teacher alone, and no teacher runs twice or deeper than its points need."""
    model = built(config)
    assert model.distillation.fpn.connector.teacher_channels == [24] * 3
    assert model.distillation.wide_fpn.connector.teacher_channels == [32] * 3
    calls = calls_of(model)
    data = model.data_preprocessor(tiny.batch(), True)
    losses = model(**data, mode='loss')
    assert calls == [*DEPTHS, 'wide.backbone']
    for name in ('big', 'wide'):
        points = {k: v for k, v in config['points'].items() if v['teacher_name'] == name}
        points = {k: dict(v, teacher_name=None) for k, v in points.items()}
        alone = built(dict(config, teacher=config['teacher'][name], points=points))
        alone.load_state_dict(model.state_dict(), strict=False)
        expected = alone(**data, mode='loss')
        for point in points:
            key = f'{point}.loss_kd'
            torch.testing.assert_close(losses[key], expected[key])


def test_each_sees_its_own_kind_of_images(config):
    model = built(config)
    data = tiny.batch()
    records = model.run_teacher(**model.data_preprocessor(data, True))
    assert list(records) == ['fpn', 'reg', 'wide_fpn']
    for point, name in (('fpn', 'big'), ('wide_fpn', 'wide')):
        teacher = model.teachers[name].model
        expected = teacher.extract_feat(teacher.data_preprocessor(data, True)['inputs'])
        for (feature, _), other in zip(records[point], expected, strict=True):
            torch.testing.assert_close(feature, other, atol=1e-4, rtol=1e-4)


def test_the_log_says_which_was_made_faster(config, monkeypatch):
    lines = []
    monkeypatch.setattr(teacher_speed, 'print_log', lambda line, **kwargs: lines.append(line))
    built(config).run_teacher(torch.randn(2, 3, 64, 64))
    assert [line.partition(':')[0] for line in lines] == ['teacher.big', 'teacher.wide']


def test_an_idle_points_teacher_does_not_run(config):
    config['points']['wide_fpn']['schedule'] = dict(start=1)
    model = built(config)
    calls = calls_of(model)
    hub = MessageHub.get_instance('several')
    hub.update_info_dict(dict(iter=0, max_iters=8, max_epochs=4))
    losses = tiny.train_step(model, tiny.batch())
    MessageHub._instance_dict.pop('several')
    assert losses['wide_fpn.loss_kd'] == 0 and losses['fpn.loss_kd'] > 0
    assert calls == DEPTHS


def test_teachers_stay_out_of_the_model_but_for_moves(config):
    model = built(config)
    assert not any('big' in name or 'teacher' in name for name in model.state_dict())
    copy = deepcopy(model).double()
    for name, teacher in copy.teachers.items():
        assert teacher is model.teachers[name]
        assert next(teacher.model.parameters()).dtype == torch.float64
    with pytest.raises(DistillationError, match='there are several teachers: big, wide'):
        model.teacher  # noqa: B018
    with pytest.raises(DistillationError, match='averages a student'):
        model.teachers['big'].named_parameters()


def test_inherits_from_the_one_that_is_named(config):
    config['inherit'] = dict(big='backbone', wide=['bbox_head'])
    model = built(config)
    for name, tensor in (('big', 'backbone.conv1.weight'), ('wide', 'bbox_head.retina_reg.bias')):
        teacher = model.teachers[name].model.state_dict()
        assert torch.equal(model.student.state_dict()[tensor], teacher[tensor])
    del config['points'], config['inherit']['wide']
    with pytest.raises(DistillationError, match='teacher.wide: nothing is learned from it'):
        tiny.build(config)


@pytest.mark.parametrize('channels', [None, 32])
def test_testing_needs_none_of_them(config, monkeypatch, channels):
    """And says which could not be looked at; training names it, too."""
    lines = []
    monkeypatch.setattr(distiller_file, 'print_log', lambda line, **kwargs: lines.append(line))
    state = built(config).state_dict()
    config['teacher']['wide'] = dict(config='gone.py', checkpoint='gone.pth')
    if channels:
        connector = dict(type='ConvConnector', teacher_channels=channels)
        config['points']['wide_fpn']['connector'] = connector
    model = tiny.build(config)
    left_out = [] if channels else ['wide_fpn']
    assert list(model.distillation) == [x for x in POINTS if x not in left_out]
    assert len(lines) == len(left_out)
    model.load_state_dict(state)
    reason = "teacher.wide: cannot load the config 'gone.py'"
    if left_out:
        assert 'points wide_fpn are left out' in lines[0] and 'teacher.wide could' in lines[0]
        reason = f'points wide_fpn: {reason}'
    with pytest.raises(DistillationError, match=reason):
        model.init_weights()


def test_wrong_checkpoints_are_named(config, tmp_path):
    for checkpoint, message in (
        (tmp_path / 'gone.pth', 'teacher.wide: there is no checkpoint'),
        (config['teacher']['big']['checkpoint'], 'teacher.wide: .* does not fit its config'),
        ('zoo', "teacher.wide: checkpoint='zoo' needs a config of an installed package"),
    ):
        config['teacher']['wide']['checkpoint'] = str(checkpoint)
        with pytest.raises(DistillationError, match=message):
            built(config)


def test_training_is_resumed_exactly(config, tmp_path, teacher_checkpoint, monkeypatch):
    monkeypatch.setattr(Config, 'pretty_text', '')
    states = []
    for name in ('whole', 'resumed'):
        cfg = tiny.training(tmp_path, teacher_checkpoint, 2, model=deepcopy(config))
        cfg.work_dir, cfg.experiment_name = str(tmp_path / name), f'several_{name}'
        cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
        if name == 'resumed':
            cfg.resume, cfg.load_from = True, str(tmp_path / 'whole/epoch_1.pth')
        Runner.from_cfg(cfg).train()
        states.append(torch.load(tmp_path / name / 'epoch_2.pth', weights_only=False))
    assert toy.differences(*map(toy.training_state, states)) == []


def _step(config, folder):
    rank = torch.distributed.get_rank()
    model = MMDistributedDataParallel(built(config), broadcast_buffers=False)
    torch.manual_seed(rank)
    model.train_step(tiny.batch(), OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.01)))
    torch.save(model.module.state_dict(), folder / f'{rank}.pth')


def test_two_processes(config, tmp_path):
    toy.in_two_processes(tmp_path, _step, config, tmp_path)
    states = [torch.load(tmp_path / f'{rank}.pth') for rank in range(2)]
    before = built(config)
    for name, parameter in before.named_parameters():
        assert torch.equal(states[0][name], states[1][name])
        if name == 'distillation.wide_fpn.connector.convs.0.weight':
            assert not torch.equal(states[0][name], parameter)


class TestTools:
    @pytest.fixture
    def path(self, config, tmp_path, monkeypatch):
        """A config file whose checkpoints are never read."""
        monkeypatch.syspath_prepend(str(ROOT / 'tools/analysis_tools'))
        for teacher in config['teacher'].values():
            teacher['checkpoint'] = 'gone.pth'
        optimizer = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.01))
        path = tmp_path / 'config.py'
        path.write_text(
            f"default_scope = 'mmdet'\nmodel = {config!r}\noptim_wrapper = {optimizer!r}\n"
            "custom_imports = dict(imports=['diffkd_mm'], allow_failed_imports=False)\n"
        )
        yield str(path)
        for tool in ('get_flops', 'benchmark', 'list_taps'):
            sys.modules.pop(tool, None)

    def test_get_flops(self, path, tmp_path):
        import get_flops

        get_flops.main([path, '--shape', '64', '64', '--json', str(tmp_path / 'out.json')])
        parts = json.loads((tmp_path / 'out.json').read_text())['parts']
        assert {'student', 'teacher.big', 'teacher.wide', 'fpn', 'wide_fpn'} == set(parts)
        assert parts['teacher.big']['macs'] < parts['teacher.wide']['macs']
        assert parts['fpn']['macs'] * 32 == parts['wide_fpn']['macs'] * 24

    def test_benchmark(self, path, tmp_path):
        import benchmark

        options = ['--shape', '64', '64', '--iters', '1', '--json', str(tmp_path / 'out.json')]
        benchmark.main([path, *options, '--teacher'])
        assert json.loads((tmp_path / 'out.json').read_text())['teacher_ratio'] > 0

    def test_list_taps(self, path, capsys):
        import list_taps

        list_taps.main([path, '--depth', '1'])
        out = capsys.readouterr().out
        assert 'teacher.big: RetinaNet' in out and 'teacher.wide: RetinaNet' in out

    def test_a_run_is_another_one_with_another_teacher(self, path, tmp_path):
        """The fingerprint by which tools/compare.py knows a run again."""
        other = tmp_path / 'teacher.py'
        other.write_text("model = dict(type='RetinaNet')\n")
        cfg = Config.fromfile(path)
        cfg.model.teacher.wide.config = str(other)
        before = fingerprint(cfg)
        other.write_text("model = dict(type='FCOS')\n")
        assert fingerprint(cfg) != before
