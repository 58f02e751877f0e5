"""Instruments: time and peak memory of the parts of a step, memory that a forward pass keeps."""

import resource
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

PHASES = ('teacher', 'student', 'connectors', 'losses', 'backward', 'optimizer')


class Phases:
    """Adds up time and notes the peak memory of the phases of a step.

    Args:
        device (str): ``'cpu'`` or a CUDA device. On CUDA the memory is what PyTorch has allocated,
            on the CPU the resident memory of the process, all in bytes.
    """

    clock = staticmethod(time.perf_counter)

    def __init__(self, device: str) -> None:
        self.on_cuda = torch.device(device).type == 'cuda'
        self.seconds = dict.fromkeys(PHASES, 0.0)
        self.peak_bytes = dict.fromkeys(PHASES, 0)

    @contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        """Attributes what happens in the context to a phase."""
        self._reset_peak()
        start = self.now()
        yield
        self.seconds[phase] += self.now() - start
        self.peak_bytes[phase] = max(self.peak_bytes[phase], self._peak())

    def wrap(self, owner: object, method: str, phase: str) -> None:
        """Attributes the calls of a method of an object to a phase."""
        function = getattr(owner, method)

        def timed(*args, **kwargs):
            with self(phase):
                return function(*args, **kwargs)

        setattr(owner, method, timed)

    def now(self) -> float:
        if self.on_cuda:
            torch.cuda.synchronize()
        return self.clock()

    def held(self) -> int:
        """What is held now, in bytes of the same kind as the peaks."""
        if self.on_cuda:
            return torch.cuda.memory_allocated()
        return _resident('VmRSS')

    def _reset_peak(self) -> None:
        if self.on_cuda:
            torch.cuda.reset_peak_memory_stats()
            return
        try:
            Path('/proc/self/clear_refs').write_text('5')
        except OSError:
            pass  # then the peak is that of the process so far

    def _peak(self) -> int:
        if self.on_cuda:
            return torch.cuda.max_memory_allocated()
        return _resident('VmHWM')


def _resident(which: str) -> int:
    """Bytes of memory of this process: ``'VmRSS'``, what it has now, or ``'VmHWM'``, the peak."""
    try:
        lines = Path('/proc/self/status').read_text().splitlines()
        return next(int(x.split()[1]) for x in lines if x.startswith(which)) * 1024
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@contextmanager
def saved_storages(parameters: Sequence[Tensor]) -> Iterator[dict[int, int]]:
    """Collects what a forward pass stores for its backward pass.

    Args:
        parameters (Sequence[Tensor]): Not counted: they exist anyway.

    Yields:
        dict[int, int]: Bytes of every distinct storage by its address.
    """
    known = {x.untyped_storage().data_ptr() for x in parameters}
    storages: dict[int, int] = {}
    held = []  # so that no storage is freed and its address used again

    def pack(x: Tensor) -> Tensor:
        storage = x.untyped_storage()
        if storage.data_ptr() not in known:
            storages[storage.data_ptr()] = storage.nbytes()
            held.append(x.detach())
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        yield storages
