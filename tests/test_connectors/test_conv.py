"""FitNet's connector."""

import pytest
import torch

from diffkd_mm.connectors import ConvConnector, DiffKDConnector


@pytest.mark.parametrize('mode', ['channel', 'scale'])
def test_vectors_are_standardized_as_maps_of_one_pixel(mode):
    on_vectors, on_maps = (ConvConnector(3, 5, standardize=mode) for _ in range(2))
    on_maps.load_state_dict(on_vectors.state_dict())
    students, teachers = torch.randn(4, 3), 2 + 3 * torch.randn(4, 5)
    (refined,), (target,), _ = on_vectors([students], [teachers])
    maps = ([x[:, :, None, None]] for x in (students, teachers))
    (refined_map,), (target_map,), _ = on_maps(*maps)
    assert refined.shape == target.shape == (4, 5)
    assert torch.equal(target, target_map.flatten(1))
    assert torch.allclose(refined, refined_map.flatten(1))
    if mode == 'channel':
        assert target.mean().abs() < 1e-5 and not torch.equal(target, teachers)


@pytest.mark.parametrize('kind', [ConvConnector, DiffKDConnector])
def test_scale_brings_the_target_back(kind):
    """To differences in the teacher's units, which a layer of the teacher's can take."""
    connector = kind(3, 5, standardize='channel')
    x = 2 + 3 * torch.randn(4, 5, 6, 6)
    _, (target,), _ = connector([torch.randn(4, 3, 6, 6)], [x])
    differences = (target[0] - target[1]) * connector.target_scales()[0][:, None, None]
    torch.testing.assert_close(differences, x[0] - x[1], rtol=1e-4, atol=1e-4)
    assert kind(3, 5, num_levels=2).target_scales() == [None, None]
