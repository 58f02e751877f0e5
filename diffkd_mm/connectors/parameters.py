"""Parameters that a step uses several times, whose gradients are added up use by use."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch import Tensor, nn

from ..diffusion import fused
from ..diffusion.side_by_side import fork


class ParameterSlots:
    """The places of the parameters of modules, for running these with other tensors.

    ``torch.func.functional_call`` does the same by names, which takes longer than a small layer.

    Args:
        modules (Sequence[nn.Module]): The modules; one that is there twice counts once.
    """

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        self._slots = [
            (owner._parameters, name)
            for module in dict.fromkeys(modules)
            for owner in module.modules()
            for name, parameter in owner._parameters.items()
            if parameter is not None
        ]

    def constants(self) -> list[Tensor]:
        """The parameters without gradients: these pass through the modules, and none arrive."""
        return [owner[name].detach() for owner, name in self._slots]

    def for_uses(self, times: int) -> list[Sequence[Tensor]]:
        """The parameters as lists of tensors for as many uses.

        Autograd adds up the gradients of each parameter by itself, by an operator for every use and
        parameter; here it is one for every use.
        """
        parameters = [owner[name] for owner, name in self._slots]
        return fork(parameters, times, as_vector=fused.is_on_cpu(parameters[0]))

    @contextmanager
    def hold(self, tensors: Sequence[Tensor]) -> Iterator[None]:
        """Puts tensors in the parameters' places."""
        parameters = [owner[name] for owner, name in self._slots]
        try:
            self._fill(tensors)
            yield
        finally:
            self._fill(parameters)

    def _fill(self, tensors: Sequence[Tensor]) -> None:
        for (owner, name), tensor in zip(self._slots, tensors):
            owner[name] = tensor
