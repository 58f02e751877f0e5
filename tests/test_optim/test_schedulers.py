"""Learning rates after so many iterations."""

import pytest
import torch
from mmengine.registry import PARAM_SCHEDULERS

import diffkd_mm  # noqa: F401  registers the scheduler


def rates(epoch_length, steps, **options):
    """The learning rates of the given steps, for a first one of 1."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = PARAM_SCHEDULERS.build(
        dict(type='diffkd_mm.ExponentialLR', **options),
        default_args=dict(optimizer=optimizer, epoch_length=epoch_length),
    )
    found = {}
    for step in range(max(steps) + 1):
        found[step] = optimizer.param_groups[0]['lr']
        scheduler.step()
    return [found[step] for step in steps]


@pytest.mark.parametrize('epoch_length', [5, 100])
def test_factor_per_epoch(epoch_length):
    """At 1.2, 2.4 and 24 epochs, whatever the iterations of one."""
    steps = [round(epochs * epoch_length) for epochs in (0, 1.2, 2.4, 24)]
    options = dict(gamma=0.97 ** (1 / 2.4), by_epoch=True, convert_to_iter_based=True)
    expected = [1, 0.97**0.5, 0.97, 0.97**10]
    assert rates(epoch_length, steps, **options) == pytest.approx(expected)


def test_begin_and_end():
    options = dict(gamma=0.5, begin=1, end=3, by_epoch=True, convert_to_iter_based=True)
    found = rates(10, [5, 10, 11, 20, 50, 99], **options)
    # The decay ends with the last iteration of epoch 3, after 19 of its 20 steps.
    assert found == pytest.approx([1, 1, 0.5**0.1, 0.5, 0.5**1.9, 0.5**1.9])


def test_by_iteration_it_is_mmengines():
    assert rates(10, [0, 1, 3], gamma=0.5, by_epoch=False) == [1, 0.5, 0.125]
