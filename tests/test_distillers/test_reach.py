"""What of the student a point trains, which the first step tells."""

from copy import deepcopy

import pytest
import tiny
import torch

from diffkd_mm.connectors import ConvConnector
from diffkd_mm.distillers.reach import ReachLog, reached_tensors


@pytest.fixture
def lines(monkeypatch):
    """What is logged: a list that grows."""
    lines = []
    monkeypatch.setattr(
        'diffkd_mm.distillers.reach.print_log', lambda line, **kwargs: lines.append(line)
    )
    return lines


def step(student=None, levels=None, **point):
    """Losses of a first training step of one point on the student's backbone."""
    channels = [8, 16, 32, 64]
    teacher = tiny.retinanet()
    for config in (teacher, student := student or tiny.retinanet()):
        config['backbone']['out_indices'] = (0, 1, 2, 3)
        config['neck'].update(in_channels=channels, start_level=1)
    options = dict(
        student='backbone',
        teacher='backbone',
        student_levels=levels,
        teacher_levels=levels,
        loss=dict(type='MSELoss'),
    )
    model = tiny.build_distiller(student, teacher, dict(stage=dict(options, **point)))
    data = model.data_preprocessor(tiny.batch(), True)
    return model, data, model(**data, mode='loss')


def frozen(stages):
    config = tiny.retinanet()
    config['backbone']['frozen_stages'] = stages
    return config


def test_frozen_stages(lines):
    """Stage 1 is frozen and the only one compared: nothing is learned, and a line says so."""
    model, _, losses = step(frozen(1), levels=[0])
    trainable = sum(p.requires_grad for p in model.student.parameters())
    counted, warning = lines
    assert f"reach 0 of the student's {trainable} trainable parameters" in counted
    assert "point 'stage': level 0 of the student tap 'backbone' needs no gradient" in warning
    assert 'frozen_stages' in warning and not losses['stage.loss_kd'].requires_grad


def test_one_of_two_levels_frozen(lines):
    step(frozen(2), levels=[1, 3])
    assert 'level 1 of the student tap' in lines[1] and 'level 1, 3' not in lines[1]


@pytest.mark.parametrize('levels', [None, [0], [1, 2]], ids=str)
def test_the_count_is_that_of_a_backward_pass(lines, levels):
    model, _, losses = step(levels=levels)
    losses['stage.loss_kd'].backward()
    reached = [p for p in model.student.parameters() if p.grad is not None]
    total = len(list(model.student.parameters()))
    assert 0 < len(reached) < total
    expected = f"reach {len(reached)} of the student's {total} trainable parameters"
    assert len(lines) == 1 and expected in lines[0]


def test_only_the_first_step_counts(lines):
    model, data, _ = step()
    model(**data, mode='loss')
    assert len(lines) == 1


def test_without_gradients_nothing_is_counted(lines):
    model, data, _ = step()
    lines.clear()
    copy = deepcopy(model)
    copy._reach = ReachLog()
    with torch.no_grad():
        copy(**data, mode='loss')
    assert not lines
    copy(**data, mode='loss')
    assert len(lines) == 1


def test_recomputed_activations_hide_some(lines):
    """Reentrant checkpointing makes the inner graph in the backward pass only."""
    student = tiny.retinanet()
    student['backbone']['with_cp'] = True
    step(student)
    assert 'reach at least' in lines[0] and len(lines) == 1


def test_connector_that_cuts_the_gradient_off(lines, monkeypatch):
    forward = ConvConnector.forward

    def detached(self, students, teachers):
        return forward(self, [x.detach() for x in students], teachers)

    monkeypatch.setattr(ConvConnector, 'forward', detached)
    step(
        levels=[2],
        connector=dict(type='ConvConnector', student_channels=32, teacher_channels=32),
    )
    assert "reach 0 of the student's" in lines[0] and 'the gradient is cut off' in lines[1]


def test_leaves_are_those_of_backward():
    a, b, c = (torch.ones(2, requires_grad=True) for _ in range(3))
    leaves, hides_some = reached_tensors([(a * 2).sum() + b.detach().sum(), torch.zeros(1)])
    assert leaves == {id(a)} and not hides_some
    assert reached_tensors([(a * b).sum(), c.sum()])[0] == {id(a), id(b), id(c)}
