"""Warnings of points whose loss does not fall, or outweighs the student's own."""

import copy

import numpy as np
import pytest
import tiny
from mmengine.config import Config
from mmengine.logging import MessageHub
from mmengine.runner import Runner

from diffkd_mm.distillers import DistillationPoint, PointOptions, watching
from diffkd_mm.distillers.watching import LossWatch

WINDOW = 50
OWN = ['loss_cls', 'loss_bbox']


@pytest.fixture
def lines(monkeypatch):
    lines = []
    monkeypatch.setattr(watching, 'print_log', lambda line, **kwargs: lines.append(line))
    return lines


@pytest.fixture
def hub():
    yield MessageHub.get_instance('watching')
    MessageHub._instance_dict.pop('watching')


def point(**options):
    options = dict(student='neck', teacher='neck', loss=dict(type='MSELoss'), **options)
    built = DistillationPoint(PointOptions.from_config('fpn', options))
    built.losses = ['loss_kd', 'loss_diff']
    return built


def train(hub, lines, iterations=1000, watch=None, options=None, last=1000, **logged):
    """Logs what functions of the iteration give, looking before each one, as a training does."""
    watch = watch or LossWatch()
    points = dict(fpn=point(**(options or {})))
    rng = np.random.default_rng(0)
    for i in range(iterations):
        hub.update_info_dict(dict(iter=i, max_iters=last))
        watch.look(OWN, points)
        for name, value in dict(dict(loss_cls=1.0, loss_bbox=1.0), **logged).items():
            value = value(i) if callable(value) else value
            if 'loss' in name:
                value *= 1 + 0.1 * rng.standard_normal()
            hub.update_scalar(f'train/{name.replace("__", ".")}', value)
    return lines


FALLING = dict(fpn__loss_kd=lambda i: 1 + 2 * np.exp(-i / 100), fpn__loss_diff=lambda i: 0.5)


class TestFalling:
    def test_what_falls_and_weighs_little_is_passed_over(self, hub, lines):
        assert train(hub, lines, **FALLING) == []

    def test_what_does_not_is_named_once_with_figures(self, hub, lines):
        (line,) = train(hub, lines, fpn__loss_kd=lambda i: 3.0)
        assert line.startswith("point 'fpn': its loss_kd does not fall: 3.0")
        for part in (
            f'over its first {WINDOW} iterations',
            'when the losses of the student itself were ',
            'loss_weight',
            'balance=dict(ratio=10.0)',
            "standardize='channel'",
            'watch=False',
        ):
            assert part in line, part

    def test_what_rises_above_its_beginning_late(self, hub, lines):
        assert train(hub, lines, 500, fpn__loss_kd=lambda i: 3 - i / 400) == []
        loss = dict(fpn__loss_kd=lambda i: 1.7 if i < 500 else 3.5)
        assert len(train(hub, lines, **loss)) == 1

    def test_not_judged_too_early(self, hub, lines):
        assert train(hub, lines, watching.PATIENCE * WINDOW, fpn__loss_kd=lambda i: 3.0) == []
        assert len(train(hub, lines, 1, fpn__loss_kd=lambda i: 3.0)) == 0  # iteration 0 is no look

    def test_long_trainings_have_longer_windows(self, hub, lines):
        assert train(hub, lines, 2000, last=90000, fpn__loss_kd=lambda i: 3.0) == []
        hub.update_info('iter', 2000)
        LossWatch().look(OWN, dict(fpn=point()))
        assert 'over its first 500 iterations' in lines[0]

    def test_without_the_factor_of_a_schedule(self, hub, lines):
        """The logged loss rises with its ramp, and is zero before."""

        def weight(i):
            return min(max(i - 100, 0) / 600, 1)

        def falling(i):
            return weight(i) * (1 + 2 * np.exp(-(i - 100) / 100))

        assert train(hub, lines, fpn__loss_kd=falling, fpn__weight=weight) == []
        hub.log_scalars.clear()
        flat = train(hub, lines, fpn__loss_kd=lambda i: weight(i) * 3, fpn__weight=weight)
        assert len(flat) == 1 and 'does not fall' in flat[0]

    def test_without_the_factor_of_a_balance(self, hub, lines):
        """Which, made of the means so far, rises while it measures."""

        def factor(i):
            return min(1 + i, 50)

        loss = dict(fpn__loss_kd=lambda i: FALLING['fpn__loss_kd'](i) * factor(i) / 50)
        balance = dict(options=dict(balance=dict(ratio=1)), fpn__balance=factor)
        assert train(hub, lines, **loss, **balance) == []

    def test_of_a_resumed_training_the_beginning_counts(self, hub, lines):
        train(hub, lines, 500, **FALLING)
        hub.update_info('iter', 500)
        watch = LossWatch()
        for i in range(500, 1000):
            hub.update_info('iter', i)
            watch.look(OWN, dict(fpn=point()))
            hub.update_scalar('train/fpn.loss_kd', 1.0)
        assert lines == []

    def test_of_nothing_nothing_is_said(self, hub, lines):
        """No region was sampled; another detector logs other names; there is no training."""
        assert train(hub, lines, fpn__loss_kd=0.0) == []
        hub.log_scalars.clear()
        assert train(hub, lines, sup_fpn__loss_kd=lambda i: 3.0) == []
        assert train(hub, lines, last=None, fpn__loss_kd=lambda i: 3.0) == []


class TestOutweighing:
    LOSSES = dict(fpn__loss_kd=lambda i: 30 * np.exp(-i / 2000), fpn__loss_diff=lambda i: 0.5)

    def test_named_once_with_figures(self, hub, lines):
        (line,) = train(hub, lines, **self.LOSSES)
        assert "point 'fpn': over the last 200 iterations its losses (loss_kd 2" in line
        assert ', loss_diff 0.' in line and 'times those of the student itself (' in line
        for part in ('Lower its loss_weight', 'balance=dict(ratio=10.0)', "standardize='scale'"):
            assert part in line

    def test_nine_times_is_passed_over(self, hub, lines):
        assert train(hub, lines, fpn__loss_kd=lambda i: 18 * np.exp(-i / 2000)) == []

    def test_only_if_it_lasts(self, hub, lines):
        losses = dict(fpn__loss_kd=lambda i: 200 * np.exp(-i / 20) + 1)
        assert train(hub, lines, **losses) == []

    def test_a_balance_has_a_ratio(self, hub, lines):
        (line,) = train(hub, lines, options=dict(balance=dict(ratio=1)), **self.LOSSES)
        assert 'Lower the ratio of its balance;' in line

    def test_a_ratio_that_was_asked_for_is_passed_over(self, hub, lines):
        assert train(hub, lines, options=dict(balance=dict(ratio=20)), **self.LOSSES) == []
        hub.log_scalars.clear()
        loss = dict(fpn__loss_kd=lambda i: 1000 * np.exp(-i / 2000))
        assert len(train(hub, lines, options=dict(balance=dict(ratio=20)), **loss)) == 1

    def test_a_student_without_losses_means_it_so(self, hub, lines):
        assert train(hub, lines, loss_cls=0.0, loss_bbox=0.0, **self.LOSSES) == []
        hub.update_info('iter', 1000)
        LossWatch().look([], dict(fpn=point()))
        assert lines == []


@pytest.mark.parametrize('watch', [True, False])
def test_in_a_training(tmp_path, teacher_checkpoint, monkeypatch, lines, watch):
    """And each iteration is logged before the next one is looked at."""
    monkeypatch.setattr(Config, 'pretty_text', '')
    monkeypatch.setattr(watching, 'SHORTEST', 1)
    points = dict(fpn=copy.deepcopy(tiny.FPN_POINT), reg=tiny.REG_POINT)
    points['fpn']['loss']['loss_weight'] = 1e4
    model = dict(tiny.distiller(teacher_checkpoint, points), watch=watch)
    cfg = tiny.training(tmp_path, teacher_checkpoint, 3, model=model)
    cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    Runner.from_cfg(cfg).train()
    heavy = [line for line in lines if "point 'fpn': over the last 4 iterations" in line]
    assert len(heavy) == watch and bool(lines) == watch
    if watch:
        assert 'loss_kd' in heavy[0] and 'loss_diff' in heavy[0]
