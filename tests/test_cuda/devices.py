"""The devices that tests run on."""

import pytest
import torch

CUDA = pytest.param(
    'cuda',
    marks=[
        pytest.mark.cuda,
        pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA device'),
    ],
)
# For tests whose CPU variant takes long, and has a shorter relative elsewhere.
long_on_the_cpu = pytest.mark.parametrize(
    'device', [pytest.param('cpu', marks=pytest.mark.long), CUDA], indirect=True
)
