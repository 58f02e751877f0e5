"""Every test here runs on the CPU and, marked ``cuda``, on a GPU: ``make gpu-check``."""

import os

import pytest
import torch
from devices import CUDA

# cuBLAS needs it to give the same numbers twice, and reads it once.
os.environ.setdefault('CUBLAS_WORKSPACE_CONFIG', ':4096:8')


@pytest.fixture(params=['cpu', CUDA])
def device(request, monkeypatch):
    """The device's name; MMEngine's runner takes it as well."""
    monkeypatch.setattr('mmengine.device.utils.DEVICE', request.param)
    return request.param


@pytest.fixture(autouse=True)
def exact():
    """Float32 is float32 and not TF32."""
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision('highest')
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.set_float32_matmul_precision(before[0])
    torch.backends.cudnn.allow_tf32 = before[1]


@pytest.fixture
def figure(record_property):
    """A function that notes a number for the report and gives it back."""

    def note(name: str, value: float) -> float:
        record_property(name, f'{value:.1e}' if 0 < abs(value) < 0.01 else f'{value:.4g}')
        return value

    return note


@pytest.fixture
def deterministic():
    """Operators that have a deterministic form take it."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(False)
