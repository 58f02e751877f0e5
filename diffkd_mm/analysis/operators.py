"""How many operators PyTorch dispatches: each costs a GPU a launch, however small its tensors."""

from collections import Counter
from typing import Any

from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode


class OperatorCounter(TorchDispatchMode):
    """Counts the operators that are dispatched in its context, those of a backward pass included.

    What computes nothing is left out: views, whose outputs are by their schema parts of their
    inputs that are not written, and allocations. A ``_foreach_`` operator is one on a GPU, where
    one kernel takes many tensors; on the CPU, where it is a loop, it is one for each tensor.

    On the meta device a model takes the path that it takes on a GPU, if it asks for the CPU alone.

    Attributes:
        counts (Counter): How often each operator ran, by its name, such as ``'aten::mul'``.
    """

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(
        self, func: OpOverload, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        """Counts an operator and runs it."""
        if not (_is_view(func) or _is_allocation(func)):
            self.counts[func._schema.name] += _repetitions(func, args)
        return func(*args, **(kwargs or {}))

    @property
    def total(self) -> int:
        """The number of operators so far."""
        return self.counts.total()


def _is_view(operator: OpOverload) -> bool:
    if operator._schema.name == 'aten::_unsafe_view':  # the one that its schema does not show
        return True
    aliases = [x.alias_info for x in operator._schema.returns]
    return bool(aliases) and all(x is not None and not x.is_write for x in aliases)


def _is_allocation(operator: OpOverload) -> bool:
    return operator._schema.name.split('::')[1].startswith(('empty', 'new_empty'))


def _repetitions(operator: OpOverload, args: tuple) -> int:
    is_loop = '::_foreach_' in operator._schema.name and args[0][0].device.type == 'cpu'
    return len(args[0]) if is_loop else 1
