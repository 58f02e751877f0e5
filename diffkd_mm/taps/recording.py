"""Recording what modules of a model output."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..errors import DistillationError


class Record(list[tuple[Tensor, int]]):
    """A tap's record: the tensors in the order in which they came out.

    Each comes with the version counter it had, by which a later in-place change is noticed.

    Args:
        checkpointed (str, optional): Path of the block around the tap that activation
            checkpointing runs without gradients first.

    Attributes:
        without_grad (bool): Whether a call under ``no_grad`` was left out.
    """

    def __init__(self, checkpointed: str | None = None) -> None:
        super().__init__()
        self.checkpointed = checkpointed
        self.without_grad = False


class Tap(NamedTuple):
    """What is tapped when a model is run for its taps.

    Args:
        path (str): Dotted path of the module.
        regions (str, optional): For RoI heads, the path of the student's RoI extractor whose
            regions the head is run on. Defaults to None.
    """

    path: str
    regions: str | None = None


def _tensors(output: Any, path: str) -> Iterator[Tensor]:
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, (tuple, list)):
        for item in output:
            yield from _tensors(item, path)
    else:
        raise DistillationError(
            f'tap {path!r} outputs a {type(output).__name__}; a tap must output a tensor or a '
            'tuple or list of tensors.'
        )


@contextmanager
def record(model: nn.Module, paths: Sequence[str]) -> Iterator[dict[str, Record]]:
    """Records the outputs of modules while the context is open.

    Hooks live no longer than the context: nothing to copy, to serialise or to switch off, and no
    tensor is held once the record is dropped.

    Args:
        model (nn.Module): The model.
        paths (Sequence[str]): Paths of the modules.

    Yields:
        dict: Per path the tensors of all calls in order; tuples and lists are flattened. Calls
        under ``no_grad`` are left out unless everything is.
    """
    with_grad = torch.is_grad_enabled()
    records = {path: Record(_checkpointed_block(model, path)) for path in paths}
    with ExitStack() as stack:
        for path in records:

            def hook(module: nn.Module, args: tuple, output: Any, path: str = path) -> None:
                if torch.is_grad_enabled() == with_grad:
                    records[path].extend((t, t._version) for t in _tensors(output, path))
                else:
                    records[path].without_grad = True

            handle = model.get_submodule(path).register_forward_hook(hook)
            stack.callback(handle.remove)
        yield records


def _checkpointed_block(model: nn.Module, path: str) -> str | None:
    """The innermost module around a path that has OpenMMLab's option ``with_cp`` set."""
    parts = path.split('.')
    around = ('.'.join(parts[:n]) for n in range(len(parts) - 1, 0, -1))
    return next((x for x in around if getattr(model.get_submodule(x), 'with_cp', False)), None)


def called_without_grad(recorded: Record, side: str, path: str) -> DistillationError:
    """The error for a tap whose calls were all under ``no_grad``."""
    instead = 'Tap the module around it that is called with gradients'
    if recorded.checkpointed:
        instead = f'Tap {recorded.checkpointed!r}, the block, or set its with_cp=False'
    return DistillationError(
        f'the {side} tap {path!r} is called without gradients only, as inside a block with '
        'activation checkpointing: its second run comes in the backward pass, when it is too late '
        f'for a loss. {instead}.'
    )


def not_called(side: str, path: str) -> DistillationError:
    """The error for a tap on a module that the forward pass does not call."""
    return DistillationError(
        f'the {side} tap {path!r} exists but was not called in the forward pass; tap a module '
        'that is called (lists of modules are not, and some heads only through a method).'
    )


def outputs(recorded: Record, path: str, side: str) -> list[Tensor]:
    """The tensors in a tap's record.

    Raises:
        DistillationError: If the module was not called, or its output was overwritten since.
    """
    if not recorded and recorded.without_grad:
        raise called_without_grad(recorded, side, path)
    if not recorded:
        raise not_called(side, path)
    for tensor, version in recorded:
        if tensor._version != version:
            raise DistillationError(
                f'the output of the {side} tap {path!r} was overwritten in place after it was '
                'recorded; tap the module that overwrites it instead.'
            )
    return [tensor for tensor, _ in recorded]
