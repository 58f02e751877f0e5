"""Learning rates after so many iterations."""

from math import floor

import pytest
import torch
from mmengine.registry import PARAM_SCHEDULERS

import diffkd_mm  # noqa: F401  registers the scheduler


def rates(epoch_length, num_steps, type='diffkd_mm.StepLR', **options):
    """The learning rate of every step, for a first one of 1."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = PARAM_SCHEDULERS.build(
        dict(type=type, **options),
        default_args=dict(optimizer=optimizer, epoch_length=epoch_length),
    )
    found = []
    for _ in range(num_steps):
        found.append(optimizer.param_groups[0]['lr'])
        scheduler.step()
    return found


@pytest.mark.parametrize('epoch_length', [5, 7, 1668])
def test_staircase_of_fractions_of_epochs(epoch_length):
    """Whatever the iterations of an epoch: 7 times 2.4 is 16.8 iterations."""
    options = dict(gamma=0.97, step_size=2.4, by_epoch=True, convert_to_iter_based=True)
    found = rates(epoch_length, 25 * epoch_length, **options)
    # In tenths of an iteration, where nothing is rounded.
    expected = [0.97 ** floor(10 * step / (24 * epoch_length)) for step in range(len(found))]
    assert found == pytest.approx(expected)
    assert len({round(rate, 9) for rate in found}) == 11


def test_begin_and_end():
    options = dict(gamma=0.5, step_size=1.5, begin=1, end=4, by_epoch=True)
    found = rates(10, 100, convert_to_iter_based=True, **options)
    # Steps are counted from epoch 1; epoch 4, the second step, is after the end.
    assert found == [1] * 25 + [0.5] * 75


def test_whole_steps_are_mmengines():
    for options in (
        dict(step_size=3, gamma=0.5, by_epoch=False),
        dict(step_size=2, gamma=0.1, begin=1, end=7, by_epoch=True, convert_to_iter_based=True),
    ):
        assert rates(4, 40, **options) == pytest.approx(rates(4, 40, type='StepLR', **options))
