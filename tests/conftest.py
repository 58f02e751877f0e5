import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))  # tests share `tiny`

import tiny  # noqa: E402


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.fixture(scope='session')
def teacher_checkpoint(tmp_path_factory):
    """Weights of the tiny teacher, in the form of a published checkpoint."""
    torch.manual_seed(7)
    path = tmp_path_factory.mktemp('teacher') / 'teacher.pth'
    model = tiny.build(tiny.retinanet(channels=24))
    model.init_weights()
    torch.save(dict(meta=dict(epoch=12), state_dict=model.state_dict()), path)
    return path
