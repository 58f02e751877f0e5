"""What a model's modules output, and which of them are worth tapping."""

import difflib
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..errors import DistillationError
from .probing import PROBE_SIZES, blank_image, left_as_found, sizes_to_try
from .running import run_or_predict

# Within these the layers before the last feed products and sums, not other layers.
_ATTENTION = ('attn', 'attention', 'ffn', 'sampling_offsets')


class Output(NamedTuple):
    """What a module outputs for one blank image.

    Args:
        path (str): Dotted path of the module.
        kind (str): Its class.
        shapes (list[tuple[int, ...]]): Of all tensors of all its calls, in order.
        image_size (int): Height and width of the image in pixels.
        worth_tapping (bool): Backbone, neck, and layers of heads whose output is a prediction.
    """

    path: str
    kind: str
    shapes: list[tuple[int, ...]]
    image_size: int
    worth_tapping: bool

    @property
    def channels(self) -> list[int]:
        """Per tensor; of tokens (B, N, C) and decoders' (layers, B, N, C) the last dimension."""
        return [
            shape[1] if _is_map(shape) or len(shape) == 2 else shape[-1] for shape in self.shapes
        ]

    @property
    def strides(self) -> list[int | None]:
        """Per tensor, in pixels of the image; None of what is no map of the image."""
        return [
            round(self.image_size / max(shape[2:])) if _is_map(shape) and shape[0] == 1 else None
            for shape in self.shapes
        ]

    def __str__(self) -> str:
        strides = [str(stride) for stride in self.strides if stride is not None]
        at = f' at stride {", ".join(strides)}' if strides else ''
        return f'{self.path} ({", ".join(map(str, dict.fromkeys(self.channels)))} channels{at})'


def _is_map(shape: tuple[int, ...]) -> bool:
    """Whether (B, C, H, W), of one image or of several regions, and not (layers, 1, N, C)."""
    return len(shape) == 4 and (shape[0] == 1 or shape[1] > 1)


def list_outputs(model: nn.Module, heads: bool = True) -> list[Output]:
    """Runs a model on a blank image and lists the modules that output tensors.

    Args:
        model (nn.Module): A model of MMDetection, MMSegmentation or MMPretrain, which is left
            as found.
        heads (bool): Whether its heads are run as well, and not backbone and neck alone. Defaults
            to True.

    Returns:
        list[Output]: In the order in which modules are first done.

    Raises:
        DistillationError: If the model does not run on an image alone, with the cause.
    """
    causes = []
    for size in [height for height, width in sizes_to_try(model) if height == width]:
        try:
            return _list_outputs(model, size, _heads(model) if heads else [])
        except Exception as error:
            causes.append(f'{type(error).__name__}: {error}')
    raise DistillationError(
        f'{type(model).__name__} does not run on a blank image of {PROBE_SIZES[0]} pixels: '
        f'{causes[0]}'
    )


def worth_tapping(outputs: list[Output]) -> list[Output]:
    """Those worth tapping: backbone and neck first, then what heads predict."""
    return sorted((x for x in outputs if x.worth_tapping), key=lambda x: '.' in x.path)


@torch.no_grad()
def _list_outputs(model: nn.Module, size: int, heads: list[str]) -> list[Output]:
    image, samples = blank_image(model, (size, size))
    # By path what it gave; and what layers were given, kept so that no `id` is used twice.
    given: dict[str, list[Tensor]] = {}
    taken: list[Tensor] = []
    with left_as_found(model), ExitStack() as stack:
        for path, module in model.named_modules():
            if not path:
                continue

            def keep(module: nn.Module, args: tuple, output: Any, path: str = path) -> None:
                given.setdefault(path, []).extend(_tensors(output))
                if _is_layer(module):
                    taken.extend(_tensors(args))

            stack.callback(module.register_forward_hook(keep).remove)
        run_or_predict(model.eval(), heads, image, samples, given)
    passed_on = {id(x) for x in taken}
    found = []
    for path, tensors in given.items():
        shapes = [tuple(x.shape) for x in tensors if x.dim() > 1]
        if shapes:
            module = model.get_submodule(path)
            last = not any(id(x) in passed_on for x in tensors)
            worth = path in ('backbone', 'neck') or (last and _predicts(model, path))
            found.append(Output(path, type(module).__name__, shapes, size, worth))
    return found


def _heads(model: nn.Module) -> list[str]:
    """Paths of all parts behind the neck, each head of a list for itself."""
    paths = []
    for name, part in model.named_children():
        if name in ('backbone', 'neck', 'data_preprocessor') or not list(part.parameters()):
            continue
        if isinstance(part, nn.ModuleList):
            paths += [f'{name}.{i}' for i in range(len(part))]
        else:
            paths.append(name)
    return paths


def _is_layer(module: nn.Module) -> bool:
    """Whether it works on features: no container, and not a mere factor, as FCOS has."""
    parameters = list(module.parameters())
    leaf = not any(True for _ in module.children())
    return leaf and (not parameters or any(p.dim() for p in parameters))


def _predicts(model: nn.Module, path: str) -> bool:
    """Whether a module is a layer of a head, as far as its place says."""
    weights = model.get_submodule(path).parameters(recurse=False)
    # Without a backbone it is a wrapped foreign model (timm's), whose head may be called anything.
    in_head = 'head' in path.split('.')[0] or not hasattr(model, 'backbone')
    inside = any(part in path for part in _ATTENTION)
    return in_head and not inside and any(p.dim() > 1 for p in weights)


def _tensors(output: Any) -> Iterator[Tensor]:
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, (tuple, list)):
        for item in output:
            yield from _tensors(item)


def check_tap(model: nn.Module, path: str, where: str) -> None:
    """Checks that a path names a module.

    Args:
        model (nn.Module): Student or teacher.
        path (str): Dotted path of a module.
        where (str): What to call the place in the message.

    Raises:
        DistillationError: Names the path, the nearest existing ones and those worth tapping.
    """
    paths = [name for name, _ in model.named_modules() if name]
    if path in paths:
        return
    near = difflib.get_close_matches(path, paths, n=3, cutoff=0.4)
    hint = f' Nearest paths: {", ".join(near)}.' if near else ''
    try:
        first = worth_tapping(list_outputs(model))[:6]
    except DistillationError:
        first = []
    listed = 'Worth tapping: ' + '; '.join(map(str, first))
    if not first:
        listed = 'Top level: ' + ', '.join(name for name, _ in model.named_children())
    raise DistillationError(
        f'{where}: {type(model).__name__} has no module {path!r}.{hint} {listed}.'
    )
