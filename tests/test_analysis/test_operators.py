"""Operators are counted as they are dispatched, and the connector dispatches few."""

import pytest
import torch

from diffkd_mm.analysis import connector_speed
from diffkd_mm.analysis.operators import OperatorCounter
from diffkd_mm.compat import RUNS_ALL_ON_META

FIVE_LEVELS = (1, 8, [(2, 3)] * 5)
needs_meta = pytest.mark.skipif(
    not RUNS_ALL_ON_META, reason='this PyTorch does not run it all on meta, and counts otherwise'
)


def test_what_computes_is_counted():
    x = torch.randn(4, 6, requires_grad=True)
    with OperatorCounter() as counter:
        y = (x.t()[1:].unsqueeze(0).expand(2, 5, 4) * 2).detach()  # of these the product
        torch.empty_like(y).copy_(y)
        (x * x).sum().backward()  # `ones_like`, two products and their sum
    expected = {'mul': 4, 'copy_': 1, 'sum': 1, 'add': 1, 'ones_like': 1}
    assert {f'aten::{name}': n for name, n in expected.items()} == counter.counts
    assert counter.total == 8


@pytest.mark.parametrize('device, expected', [('cpu', 3), ('meta', 1)])
def test_a_list_is_one_kernel_on_a_gpu(device, expected):
    tensors = [torch.ones(2, device=device) for _ in range(3)]
    with OperatorCounter() as counter:
        torch._foreach_add_(tensors, 1)
    assert counter.counts == {'aten::_foreach_add_': expected}


@needs_meta
@pytest.mark.parametrize('device, most', [('cpu', 3066), ('meta', 1341)])
def test_five_levels(device, most):
    """The bounds of docs/speed.md: who adds an operator to the connector moves them there, too."""
    assert connector_speed.count_operators(FIVE_LEVELS, device)['connector'].total() <= most


@needs_meta
def test_the_count_does_not_depend_on_the_maps():
    channels, sizes = 16, [(9, 7), (5, 4)]
    found = []
    for shape in ((1, 8, [(2, 3)] * 2), (1, channels, sizes)):
        connector = connector_speed.variants(shape, 'meta', False, False)['connector']
        with OperatorCounter() as counter:
            model = connector_speed.as_model('connector', connector)
            connector_speed.run_step(model, connector, connector_speed.features(shape, 'meta'))
        found.append(counter.counts)
    assert found[0] == found[1]
