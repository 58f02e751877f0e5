"""What MMEngine writes into a training checkpoint beside tensors, and may be read without trust."""

import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
from mmengine.logging import HistoryBuffer
from mmengine.optim import OneCycleParamScheduler


def training_state_globals() -> dict[str, Any]:
    """What the pickled logs and the curve of a one-cycle schedule name, by those names.

    NumPy 2 moved the functions that its arrays are pickled with; files of either NumPy are read.
    """
    one_cycle = f'{OneCycleParamScheduler.__module__}.{OneCycleParamScheduler.__qualname__}'
    history = f'{HistoryBuffer.__module__}.{HistoryBuffer.__qualname__}'
    found = {
        'numpy.ndarray': np.ndarray,
        'numpy.dtype': np.dtype,
        history: HistoryBuffer,
        one_cycle: _OneCycle,
        'builtins.getattr': _attribute,
    }
    for package in ('numpy.core', 'numpy._core'):
        found[f'{package}.multiarray._reconstruct'] = np.array(0).__reduce__()[0]
        found[f'{package}.multiarray.scalar'] = np.float64(0).__reduce__()[0]
    for kind in ('f8', 'f4', 'f2', 'i8', 'i4', 'i2', 'u4', 'u1', 'b1'):
        of_kind = type(np.dtype(kind))
        found[f'{of_kind.__module__}.{of_kind.__qualname__}'] = of_kind
    return found


class _OneCycle:
    """Stands in for the scheduler, whose name alone is needed and which could be called."""


def _attribute(owner: Any, name: str) -> Callable:
    """Stands in for ``getattr``, by which a pickled log names its statistics.

    The real one would lead from any object to any code.
    """
    if owner is HistoryBuffer and name in ('min', 'max', 'mean', 'current'):
        return getattr(HistoryBuffer, name)
    if owner is _OneCycle and name in ('_annealing_cos', '_annealing_linear'):
        return getattr(OneCycleParamScheduler, name)
    raise pickle.UnpicklingError(f'weights_only: getattr({owner!r}, {name!r}) is not allowed')
