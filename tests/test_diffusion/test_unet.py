import sys
from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F

from diffkd_mm.connectors import DiffKDConnector
from diffkd_mm.diffusion import UNetDenoiser

WIDTHS = (8, 16, 16)


def test_missing_diffusers_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, 'diffusers', None)
    with pytest.raises(ImportError, match='pip install diffusers'):
        UNetDenoiser(4)


class TestWithDiffusers:
    @pytest.fixture(autouse=True)
    def diffusers(self):
        pytest.importorskip('diffusers', reason='UNetDenoiser needs diffusers')

    def test_has_the_papers_size(self):
        """13.62 M parameters at 256 channels (Table 12)."""
        with torch.device('meta'):
            denoiser = UNetDenoiser(256)
        assert sum(p.numel() for p in denoiser.parameters()) == 13_617_088

    @pytest.mark.parametrize('size', [(1, 1), (7, 11), (13, 21), (12, 8)], ids=str)
    def test_any_size(self, size):
        """What is added to reach a multiple of the stride is taken away where it was added."""
        torch.manual_seed(0)
        denoiser = UNetDenoiser(4, block_out_channels=WIDTHS)
        x = torch.randn(2, 4, *size)
        timesteps = torch.tensor([3, 999])
        noise = denoiser(x, timesteps)
        assert noise.shape == x.shape
        height, width = (-(-length // 4) * 4 for length in size)
        whole = torch.zeros(2, 4, height, width)
        whole[..., : size[0], : size[1]] = x
        torch.testing.assert_close(
            noise, denoiser(whole, timesteps)[..., : size[0], : size[1]], atol=1e-5, rtol=1e-4
        )

    @pytest.mark.parametrize('widths', [(6, 12), (10,), (32, 48, 80), (128, 256)], ids=str)
    def test_groups_divide_any_widths(self, widths):
        denoiser = UNetDenoiser(3, block_out_channels=widths)
        x = torch.randn(1, 3, 5, 6)
        assert denoiser(x, torch.tensor([7])).shape == x.shape

    @pytest.mark.parametrize('widths, groups', [((128, 256), 32), ((32, 128, 256), 8)], ids=str)
    def test_groups_have_four_channels_in_the_narrowest_layer(self, widths, groups):
        with torch.device('meta'):
            denoiser = UNetDenoiser(3, block_out_channels=widths)
        found = {m.num_groups for m in denoiser.modules() if isinstance(m, torch.nn.GroupNorm)}
        assert found == {groups}

    def test_timestep_changes_the_prediction_and_broadcasts(self):
        torch.manual_seed(0)
        denoiser = UNetDenoiser(4, block_out_channels=WIDTHS)
        x = torch.randn(3, 4, 8, 8)
        early, late = (denoiser(x, torch.tensor([t])) for t in (0, 400))
        # Group norm, unlike batch norm, leaves a timestep that the batch shares visible.
        assert (early - late).std() > 0.01 * early.std()
        torch.testing.assert_close(late, denoiser(x, torch.tensor([400] * 3)))

    def connector(self, **options):
        torch.manual_seed(0)
        return DiffKDConnector(
            3,
            4,
            num_levels=2,
            denoiser=dict(type='UNetDenoiser', block_out_channels=WIDTHS),
            num_inference_steps=2,
            **options,
        )

    def backward(self, connector):
        """Gradients of a step: of the students, and of the denoiser of the first level."""
        torch.manual_seed(1)
        students = [torch.randn(2, 3, *s, requires_grad=True) for s in [(7, 5), (3, 3)]]
        teachers = [torch.randn(2, 4, *s) for s in [(7, 5), (3, 3)]]
        refined, targets, losses = connector(students, teachers)
        loss = sum(F.mse_loss(x, y) for x, y in zip(refined, targets)) + losses['loss_diff']
        loss.backward()
        denoiser = connector.levels[0].denoiser
        return [x.grad for x in students], [p.grad for p in denoiser.parameters()]

    @pytest.mark.parametrize('kd_trains_denoiser', [True, False])
    def test_trains_in_the_connector(self, kd_trains_denoiser):
        connector = self.connector(kd_trains_denoiser=kd_trains_denoiser)
        assert isinstance(connector.levels[0].denoiser, UNetDenoiser)
        for grads in self.backward(connector):
            assert all(grad is not None and grad.abs().sum() > 0 for grad in grads)

    def test_checkpointing_leaves_the_gradients_as_they_are(self):
        connector = self.connector()
        checkpointed = deepcopy(connector)
        for level in checkpointed.levels:
            level.with_cp = True
        runs = []
        checkpointed.levels[0].denoiser.register_forward_pre_hook(lambda *_: runs.append(1))
        expected, found = self.backward(connector), self.backward(checkpointed)
        assert len(runs) == 6  # loss_diff and two steps, once forward and once backward
        torch.testing.assert_close(found, expected)
