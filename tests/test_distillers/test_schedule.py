"""Weights over time: when a point's losses count, and what runs then."""

import json
import re

import pytest
import tiny
import torch
import toy
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.logging import MessageHub
from mmengine.runner import Runner

from diffkd_mm.distillers import DistillationPoint, PointOptions, schedule
from diffkd_mm.distillers.schedule import Schedule
from diffkd_mm.errors import DistillationError

CONV = dict(
    student='neck',
    teacher='neck',
    connector=dict(type='ConvConnector', student_channels=16, teacher_channels=24),
    loss=dict(type='MSELoss'),
)


@pytest.fixture(autouse=True)
def unformatted(monkeypatch):
    """To format a config for log and checkpoints takes longer than these trainings."""
    monkeypatch.setattr(Config, 'pretty_text', '')


class TestFactor:
    @pytest.mark.parametrize(
        'options, expected',
        [
            ({}, [1, 1, 1, 1, 1, 1, 1]),
            (dict(start=2), [0, 0, 1, 1, 1, 1, 1]),
            (dict(stop=3), [1, 1, 1, 0, 0, 0, 0]),
            (dict(start=1, ramp_up=4), [0, 0, 0.25, 0.5, 0.75, 1, 1]),
            (dict(stop=5, ramp_down=2), [1, 1, 1, 1, 0.5, 0, 0]),
            (dict(start=1, stop=5, ramp_up=2, ramp_down=2), [0, 0, 0.5, 1, 0.5, 0, 0]),
        ],
    )
    def test_over_time(self, options, expected):
        assert [Schedule(**options).at(time) for time in range(7)] == expected

    def test_ramps_within_an_epoch(self):
        assert Schedule(start=0.5, ramp_up=0.5).at(0.75) == 0.5

    @pytest.mark.parametrize(
        'options, message',
        [
            (dict(stop=2, start=2), 'do not fit before stop=2'),
            (dict(stop=5, ramp_up=3, ramp_down=3), 'ramp_up=3 and ramp_down=3 do not fit'),
            (dict(ramp_down=3), 'ramp_down=3 ends at stop, which is missing'),
        ],
    )
    def test_refuses_what_does_not_fit(self, options, message):
        with pytest.raises(DistillationError, match=f"^point 'fpn', schedule: .*{message}"):
            DistillationPoint(PointOptions.from_config('fpn', dict(CONV, schedule=options)))


class Seen(Hook):
    """Notes, each iteration, the logged losses and what ran."""

    priority = 'LOWEST'

    def __init__(self):
        self.log, self.ran, self.gradients = [], [], []

    def before_train(self, runner):
        model = getattr(runner.model, 'module', runner.model)
        point = model.distillation.fpn
        # The first run is repeated to see what folding its norms changes.
        model.run_teacher(torch.linspace(-1, 1, 3 * 64 * 64).view(1, 3, 64, 64))
        model.teacher.model.register_forward_pre_hook(lambda *_: self.ran.append('whole teacher'))
        model.teacher.model.neck.register_forward_hook(lambda *_: self.ran.append('teacher'))
        point.connector.register_forward_hook(lambda *_: self.ran.append('connector'))
        weight = next(point.connector.parameters())
        weight.register_hook(lambda gradient: self.gradients.append(gradient.abs().sum().item()))

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.log.append({key: value.item() for key, value in outputs.items()})


def train(cfg):
    """Trains, and gives what was seen."""
    seen = Seen()
    runner = Runner.from_cfg(cfg)
    runner.register_hook(seen)
    runner.train()
    return seen


def training(folder, teacher_checkpoint, name, point=CONV, epochs=4, **options):
    """Two iterations per epoch."""
    cfg = tiny.training(
        folder,
        teacher_checkpoint,
        max_epochs=epochs,
        model=tiny.distiller(teacher_checkpoint, dict(fpn=dict(point, schedule=options))),
    )
    cfg.work_dir = str(folder / name)
    cfg.experiment_name = f'{folder.name}_{name}'
    return cfg


def by_iterations(cfg, iterations):
    cfg.train_cfg = dict(type='IterBasedTrainLoop', max_iters=iterations, val_interval=100)
    cfg.train_dataloader.sampler = dict(type='InfiniteSampler', shuffle=True)
    cfg.default_hooks.checkpoint.update(by_epoch=False, interval=2)
    cfg.log_processor.by_epoch = False
    return cfg


RAMPS = dict(start=2, ramp_up=2, stop=7, ramp_down=2)
EXPECTED = [0, 0, 0, 0.5, 1, 1, 0.5, 0]


class TestTraining:
    @pytest.mark.parametrize(
        'options, iterations',
        [
            (dict(start=1, ramp_up=1, stop=3.5, ramp_down=1), None),
            (dict(RAMPS, by_epoch=False), 8),
        ],
        ids=['epochs', 'iterations'],
    )
    def test_weights_and_what_runs(self, tmp_path, teacher_checkpoint, options, iterations):
        cfg = training(tmp_path, teacher_checkpoint, 'work', **options)
        if iterations:
            by_iterations(cfg, iterations)
        cfg.optim_wrapper.accumulative_counts = 3  # an iteration stays a batch
        seen = train(cfg)
        assert [line['fpn.weight'] for line in seen.log] == EXPECTED
        for line in seen.log:
            assert (line['fpn.loss_kd'] > 0) == (line['fpn.weight'] > 0)
            own = line['loss_cls'] + line['loss_bbox']
            assert line['loss'] == pytest.approx(own + line['fpn.loss_kd'])
        assert seen.ran == ['teacher', 'connector'] * sum(x > 0 for x in EXPECTED)
        assert len(seen.gradients) == sum(x > 0 for x in EXPECTED)  # none, and not zeros

    @pytest.mark.parametrize('iterations', [None, 8])
    def test_resumed_in_the_middle_of_a_ramp(self, tmp_path, teacher_checkpoint, iterations):
        """Bit for bit, and the log of the rest is the same."""
        options = dict(RAMPS, by_epoch=False)
        checkpoint = 'iter_4.pth' if iterations else 'epoch_2.pth'
        seen, states = [], []
        for name in ('whole', 'resumed'):
            cfg = training(tmp_path, teacher_checkpoint, name, tiny.FPN_POINT, **options)
            if iterations:
                by_iterations(cfg, iterations)
            if name == 'resumed':
                cfg.resume, cfg.load_from = True, str(tmp_path / 'whole' / checkpoint)
            seen.append(train(cfg))
            last = (tmp_path / name / 'last_checkpoint').read_text()
            states.append(torch.load(last, weights_only=False))
        assert [line['fpn.weight'] for line in seen[1].log] == EXPECTED[4:]
        assert seen[0].log[4:] == seen[1].log
        assert toy.differences(*map(toy.training_state, states)) == []


@pytest.fixture
def hub():
    """What a training says of itself, without one."""
    yield MessageHub.get_instance('schedule')
    MessageHub._instance_dict.pop('schedule')


@pytest.fixture
def lines(monkeypatch):
    lines = []
    monkeypatch.setattr(schedule, 'print_log', lambda line, **kwargs: lines.append(line))
    return lines


def now(hub, iteration, epochs=4):
    hub.update_info_dict(dict(iter=iteration, max_iters=8, max_epochs=epochs))


def built(**options):
    points = dict(fpn=dict(tiny.FPN_POINT, **options), reg=tiny.REG_POINT)
    torch.manual_seed(0)
    model = tiny.build_distiller(tiny.retinanet(), tiny.retinanet(channels=24), points)
    return model, model.data_preprocessor(tiny.batch(), True)


def losses_of(**options):
    model, data = built(**options)
    torch.manual_seed(0)
    return model(**data, mode='loss')


def test_factor_is_of_the_points_losses_alone(hub):
    now(hub, 1)
    whole, half = losses_of(), losses_of(schedule=dict(ramp_up=1))
    assert half.pop('fpn.weight') == 0.5
    assert whole.keys() == half.keys()
    for name in ('fpn.loss_kd', 'fpn.loss_diff'):
        torch.testing.assert_close(half[name], whole[name] / 2)
    for name in ('fpn.noise_weight', 'reg.loss_kd', 'loss_cls'):
        assert toy.differences(half[name], whole[name]) == []


def test_after_the_balance_which_measures_the_whole_loss(hub):
    now(hub, 1)
    losses = losses_of(schedule=dict(ramp_up=1), balance=dict(ratio=0.3))
    own = sum(sum(losses[key]) for key in ('loss_cls', 'loss_bbox'))
    torch.testing.assert_close(losses['fpn.loss_kd'], 0.5 * 0.3 * own)


def test_outside_of_a_training_the_factor_is_one(hub, lines):
    assert losses_of(schedule=dict(start=3))['fpn.weight'] == 1 and not lines


def test_losses_that_are_over_are_logged_as_zero(hub):
    point = DistillationPoint(PointOptions.from_config('fpn', dict(CONV, schedule=dict(stop=1))))
    losses = dict(loss_kd=torch.ones(()), loss_ae=torch.ones(()), noise_weight=torch.ones(()))
    assert point.weigh(losses, 1.0) == dict(losses, weight=1)
    assert point.idle(torch.ones(2)) == dict(loss_kd=0, loss_ae=0, weight=0)


def test_warm_start_does_not_wait(hub):
    now(hub, 0)
    model, data = built(schedule=dict(start=1))
    assert model.teacher_losses(**data)['fpn.loss_diff'] > 0
    assert model(**data, mode='loss')['fpn.loss_kd'] == 0


@pytest.mark.parametrize(
    'options, epochs, sentence',
    [
        (dict(start=1, ramp_up=3, stop=4), 4, None),
        (dict(start=8, by_epoch=False), 1, None),
        (dict(start=2, ramp_up=3), 4, 'schedule has start=2, and this training has 4 epochs'),
        (dict(stop=9), 4, 'schedule has stop=9, .* 4 epochs'),
        (dict(start=2, stop=3), 1, 'start=2, stop=3, .* 1 epochs .*set by_epoch=False'),
        (dict(start=9, by_epoch=False), 4, 'start=9, and this training has 8 iterations.$'),
    ],
)
def test_warns_of_what_the_training_does_not_reach(hub, lines, options, epochs, sentence):
    now(hub, 0, epochs)
    point = Schedule(**options)
    for _ in range(2):
        point.now('fpn')
    assert len(lines) == bool(sentence)
    if sentence:
        assert "point 'fpn'" in lines[0]
        assert re.search(sentence, lines[0]), lines[0]


def _train_in_a_process(cfg, folder):
    seen = train(cfg)
    (folder / f'{torch.distributed.get_rank()}.json').write_text(json.dumps(vars(seen)))


def test_two_processes(tmp_path, teacher_checkpoint):
    """DDP, which waits for all gradients, gets zeros of a connector that does not run."""
    cfg = training(tmp_path, teacher_checkpoint, 'work', **RAMPS, by_epoch=False)
    cfg.train_dataloader.batch_size = 2
    toy.in_two_processes(tmp_path, _train_in_a_process, toy.for_ranks(cfg), tmp_path)
    for rank in range(2):
        seen = json.loads((tmp_path / f'{rank}.json').read_text())
        assert [line['fpn.weight'] for line in seen['log']] == EXPECTED
        assert [x > 0 for x in seen['gradients']] == [x > 0 for x in EXPECTED]
        assert seen['ran'] == ['teacher', 'connector'] * sum(x > 0 for x in EXPECTED)
