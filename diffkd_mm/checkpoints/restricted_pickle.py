"""``torch.load``'s ``weights_only`` with the types of a training checkpoint, for PyTorch below 2.6.

There ``weights_only`` takes no types beside its own, so logs and schedules of MMEngine would be
refused and no training resumed. This module takes the place of :mod:`pickle`: it reads what is on
a list, calls nothing else and changes no object but those that it may create.
"""

import _codecs
import io
import pickle
from collections import Counter, OrderedDict
from functools import cache
from typing import Any, BinaryIO

import torch
from torch import _weights_only_unpickler as weights_only

from .training_state import training_state_globals


@cache
def allowed_globals() -> dict[str, Any]:
    """What a file may name: PyTorch's list, what later versions added, and a training's state."""
    dtypes = {str(x): x for x in vars(torch).values() if isinstance(x, torch.dtype)}
    later = {
        'collections.Counter': Counter,
        'torch.device': torch.device,
        'builtins.set': set,
        'builtins.bytearray': bytearray,
        'builtins.complex': complex,
        '_codecs.encode': _codecs.encode,
    }
    # Files of Python 2's protocol write builtins by their old name.
    later |= {name.replace('builtins', '__builtin__'): value for name, value in later.items()}
    state = training_state_globals()
    state['__builtin__.getattr'] = state['builtins.getattr']
    return {**weights_only._get_allowed_globals(), **dtypes, **later, **state}


def _is_allowed(value: Any) -> bool:
    return any(value is x for x in allowed_globals().values())


class Unpickler(pickle._Unpickler):  # the one in Python, whose steps can be narrowed
    """Reads a pickle as far as it consists of :func:`allowed_globals`."""

    dispatch = pickle._Unpickler.dispatch.copy()

    def find_class(self, module: str, name: str) -> Any:
        """What a name of the file means.

        Raises:
            pickle.UnpicklingError: If it is not on the list.
        """
        path = f'{module}.{name}'
        if path not in allowed_globals():
            raise pickle.UnpicklingError(f'weights_only: GLOBAL {path} is not allowed')
        return allowed_globals()[path]

    def get_extension(self, code: int) -> None:
        raise pickle.UnpicklingError('weights_only: an extension of pickle is not allowed')

    def _checked(self, value: Any, step: str) -> None:
        if not _is_allowed(value):
            raise pickle.UnpicklingError(f'weights_only: {step} of {value!r} is not allowed')

    def load_reduce(self) -> None:
        self._checked(self.stack[-2], 'a call')
        super().load_reduce()

    def load_newobj(self) -> None:
        self._checked(self.stack[-2], 'an instance')
        super().load_newobj()

    def load_build(self) -> None:
        if type(self.stack[-2]) is not OrderedDict:
            self._checked(type(self.stack[-2]), 'a state')
        super().load_build()

    def refuse(self) -> None:
        raise pickle.UnpicklingError('weights_only: an instance of its kind is not allowed')

    dispatch[pickle.REDUCE[0]] = load_reduce
    dispatch[pickle.NEWOBJ[0]] = load_newobj
    dispatch[pickle.BUILD[0]] = load_build
    for _code in (pickle.NEWOBJ_EX, pickle.INST, pickle.OBJ):
        dispatch[_code[0]] = refuse


def load(file: BinaryIO, **options: Any) -> Any:
    """As ``pickle.load``."""
    return Unpickler(file, **options).load()


def loads(data: bytes, **options: Any) -> Any:
    """As ``pickle.loads``."""
    return load(io.BytesIO(data), **options)
