"""Compiling the parts of a frozen model that have no tap inside."""

import logging
from collections.abc import Callable, Collection, Iterator
from typing import Any

import torch
from mmengine.logging import print_log
from torch import nn

from ..compat import OutOfMemoryError, freezing_compiler

# Where the time goes into more than products, which compilation leaves as they are.
_PARTS = ('backbone', 'neck')


class CompiledForward:
    """A module's forward, compiled for images of any size; if that fails, what it was.

    Weights become constants in the layout of the kernels ("freezing"), so they are held twice.

    Args:
        module (nn.Module): The module, in eval mode, run without gradients.
        path (str): Its path, for the message.
        label (str): What the message calls the model.
    """

    def __init__(self, module: nn.Module, path: str, label: str) -> None:
        self.path = path
        self.label = label
        self.plain = module.forward
        self.works = True
        self._compiled: Callable | None = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Computes what the module's own forward does; new kinds of inputs are compiled first."""
        if self.works:
            try:
                if self._compiled is None:
                    self._compiled = torch.compile(self.plain, dynamic=True)
                with freezing_compiler():
                    return self._compiled(*args, **kwargs)
            except OutOfMemoryError:
                raise
            except Exception as error:  # the compiler's, or the model's, which comes again below
                self.works = False
                reason = f'{type(error).__name__}: {error}'.strip().splitlines()[0]
                print_log(
                    f'{self.label}: compile=True: its {self.path} does not compile and runs as it '
                    f'was ({reason})',
                    logger='current',
                    level=logging.WARNING,
                )
        return self.plain(*args, **kwargs)

    def __getstate__(self) -> dict:
        """A copy belongs to another module, and compiles for itself."""
        return vars(self) | dict(_compiled=None)


class Compilation:
    """Compiles backbone and neck, or what is within them beside and between the taps.

    Hooks come and go with each step, and a compiled module would be compiled anew with each that
    it finds inside. So only ``forward`` is compiled, around which a module's own hooks are called,
    and of modules without a tap inside.

    Args:
        model (nn.Module): The model, in eval mode. Its modules get another ``forward``.
        tapped (Collection[str]): Paths of modules that are tapped.
        label (str): What messages call the model.
    """

    def __init__(self, model: nn.Module, tapped: Collection[str], label: str) -> None:
        self._modules: list[nn.Module] = []
        for part in _PARTS:
            module = getattr(model, part, None)
            for path, piece in _pieces(module, part, tapped) if module is not None else ():
                piece.forward = CompiledForward(piece, path, label)
                self._modules.append(piece)

    def paths(self) -> list[str]:
        """What is compiled, and has not failed to be."""
        forwards = [module.forward for module in self._modules]
        return [x.path for x in forwards if x.works]

    def undo(self) -> None:
        """Gives the modules their own ``forward`` again."""
        for module in self._modules:
            del module.forward
        self._modules.clear()


def _pieces(
    module: nn.Module, path: str, tapped: Collection[str]
) -> Iterator[tuple[str, nn.Module]]:
    """The largest modules of several layers that are called as a whole and have no tap inside."""
    has_tap = any(x.startswith(f'{path}.') for x in tapped)
    if has_tap or isinstance(module, (nn.ModuleList, nn.ModuleDict)):
        for name, child in module.named_children():
            yield from _pieces(child, f'{path}.{name}', tapped)
    elif any(True for _ in module.children()) and 'forward' not in vars(module):
        yield path, module
