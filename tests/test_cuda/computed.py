"""The same computation in float64 on the CPU and in another precision on a device, compared."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from unittest.mock import patch

import torch
from torch import Tensor, nn

Values = dict[str, Tensor]
SCALED = 64.0  # the loss before a backward pass in half precision, as a GradScaler would have it


@contextmanager
def same_draws(seed: int = 0) -> Iterator[None]:
    """PyTorch's random numbers are drawn on the CPU, in float32, for every device and dtype.

    Generators of the CPU and of CUDA draw different numbers from one seed.
    """
    generator = torch.Generator().manual_seed(seed)

    def on_cpu(draw: Callable) -> Callable:
        def drawn(*args, device=None, dtype=None, **options):
            return draw(*args, generator=generator, **options).to(device=device, dtype=dtype)

        return drawn

    names = ('rand', 'randn', 'randint', 'randperm')
    with patch.multiple(torch, **{name: on_cpu(getattr(torch, name)) for name in names}):
        yield


@contextmanager
def in_float64() -> Iterator[None]:
    """``x.float()`` leaves float64 as it is, and half precision becomes it.

    What is computed from a model in float64 is in float64 then, but for anchors and the like, which
    have integers for coordinates.
    """
    to_float32 = Tensor.float

    def to_float64(x: Tensor) -> Tensor:
        return x.double() if x.dtype in (torch.float64, torch.float16) else to_float32(x)

    with patch.object(Tensor, 'float', to_float64):
        yield


def to_float64(module: nn.Module) -> nn.Module:
    """Casts what is float32; buffers in half precision stay as coarse as they are."""
    return module._apply(lambda x: x.double() if x.dtype == torch.float32 else x)


def compute(
    module: nn.Module,
    forward: Callable[[nn.Module], Values],
    device: str,
    autocast: torch.dtype | None = None,
) -> Values:
    """What a forward and backward pass gives: all outputs, and the gradients of the parameters.

    Args:
        module (nn.Module): On its device.
        forward (Callable): Gives outputs by their names; those with ``loss`` in it are summed.
        device (str): The device.
        autocast (dtype, optional): Dtype of the forward pass; the loss is scaled then.
    """
    context = nullcontext() if autocast is None else torch.autocast(device, autocast)
    with same_draws():
        with context:
            outputs = forward(module)
        total = sum(x.float() for name, x in outputs.items() if 'loss' in name)
        scale = 1.0 if autocast is None else SCALED / total.item()
        (total * scale).backward()
    values = {name: x.detach().double().cpu() for name, x in outputs.items()}
    for name, parameter in module.named_parameters():
        if parameter.grad is not None:
            values[f'grad {name}'] = parameter.grad.double().cpu() / scale
    return values


def difference(found: Values, expected: Values) -> tuple[float, str]:
    """The largest difference as a share of the tensor's largest value, and which tensor's it is.

    Gradients below a hundredth of the largest count as that, since some are small differences of
    large numbers, and those that are zero but for rounding, as of a bias before a norm, as large.
    """
    assert found.keys() == expected.keys()
    sizes = {name: x.abs().max().item() for name, x in expected.items()}
    largest = max((x for name, x in sizes.items() if name.startswith('grad')), default=0)
    shares = {}
    for name, size in sizes.items():
        if name.startswith('grad'):
            size = max(size, largest / 100) if size > 1e-9 * largest else largest
        error = (found[name] - expected[name]).abs().max().item()
        shares[name] = error / max(size, 1e-30)
    assert all(x == x for x in shares.values()), [name for name, x in shares.items() if x != x]
    return max((share, name) for name, share in shares.items())


def distance(found: Values, expected: Values) -> float:
    """Norm of the difference of all gradients as a share of their norm: for coarse numbers.

    Everything must be finite, and every loss within one percent.
    """
    assert found.keys() == expected.keys()
    assert all(x.isfinite().all() for x in found.values())
    for name in (x for x in expected if 'loss' in x):
        torch.testing.assert_close(found[name], expected[name], rtol=1e-2, atol=1e-6, msg=name)
    names = [name for name in expected if name.startswith('grad')]
    theirs = torch.cat([expected[name].flatten() for name in names])
    ours = torch.cat([found[name].flatten() for name in names])
    return ((ours - theirs).norm() / theirs.norm()).item()
