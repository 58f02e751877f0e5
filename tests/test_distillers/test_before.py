"""A checkpoint that was written before the files were split loads and gives the same losses."""

from pathlib import Path

import pytest
import torch

from diffkd_mm.distillers import DistillationPoint, PointOptions

BEFORE = Path(__file__).parents[1] / 'assets' / 'point_before.pth'


def test_point_of_before():
    before = torch.load(BEFORE, weights_only=True)
    point = DistillationPoint(
        PointOptions(
            'neck',
            student='neck',
            teacher='neck',
            loss=dict(type='MSELoss'),
            connector=dict(
                type='DiffKDConnector',
                student_channels=4,
                teacher_channels=8,
                num_levels=2,
                latent_channels=4,
            ),
        )
    )
    assert list(point.state_dict()) == list(before['state_dict'])
    point.load_state_dict(before['state_dict'])
    torch.manual_seed(2)
    losses = point(before['students'], before['teachers'])
    found = {key: value.item() for key, value in losses.items()}
    assert found == pytest.approx(before['losses'], rel=1e-4)
