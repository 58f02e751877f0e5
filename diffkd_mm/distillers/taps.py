"""Taps: recording what modules of a model output, and running a model as deep as they need."""

import difflib
import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import DistillationError

# A tap's record: the tensors in the order in which they came out. Each comes with the version
# counter it had, by which a later in-place change is noticed.
_Record = list[tuple[Tensor, int]]


def check_tap(model: nn.Module, path: str, where: str) -> None:
    """Checks that a path names a module.

    Args:
        model (nn.Module): Student or teacher.
        path (str): Dotted path of a module.
        where (str): What to call the place in the message.

    Raises:
        DistillationError: Names the path and the nearest existing ones.
    """
    paths = [name for name, _ in model.named_modules() if name]
    if path not in paths:
        near = difflib.get_close_matches(path, paths, n=3, cutoff=0.4)
        hint = f' Nearest paths: {", ".join(near)}.' if near else ''
        raise DistillationError(
            f'{where}: {type(model).__name__} has no module {path!r}.{hint} '
            f'Top level: {", ".join(name for name, _ in model.named_children())}.'
        )


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
def record(model: nn.Module, paths: Sequence[str]) -> Iterator[dict[str, _Record]]:
    """Records the outputs of modules while the context is open.

    Hooks live no longer than the context: nothing to copy, to serialise or to switch off, and no
    tensor is held once the record is dropped.

    Args:
        model (nn.Module): The model.
        paths (Sequence[str]): Paths of the modules.

    Yields:
        dict: Per path the tensors of all calls in order; tuples and lists are flattened.
    """
    records: dict[str, _Record] = {path: [] for path in paths}
    handles = []

    def hook_for(path: str):
        def hook(module: nn.Module, args: tuple, output: Any) -> None:
            records[path].extend((t, t._version) for t in _tensors(output, path))

        return hook

    try:
        for path in records:
            handles.append(model.get_submodule(path).register_forward_hook(hook_for(path)))
        yield records
    finally:
        for handle in handles:
            handle.remove()


def not_called(side: str, path: str) -> DistillationError:
    """The error for a tap on a module that the forward pass does not call."""
    return DistillationError(
        f'the {side} tap {path!r} exists but was not called in the forward pass; tap a module '
        'that is called (lists of modules are not, and some heads only through a method).'
    )


def outputs(records: dict[str, _Record], path: str, side: str) -> list[Tensor]:
    """The recorded tensors of a tap.

    Raises:
        DistillationError: If the module was not called, or its output was overwritten since.
    """
    if not records[path]:
        raise not_called(side, path)
    for tensor, version in records[path]:
        if tensor._version != version:
            raise DistillationError(
                f'the output of the {side} tap {path!r} was overwritten in place after it was '
                'recorded; tap the module that overwrites it instead.'
            )
    return [tensor for tensor, _ in records[path]]


def run_to_taps(
    model: nn.Module, paths: Sequence[str], inputs: Tensor, data_samples: list | None = None
) -> None:
    """Runs a model's forward pass as deep as the taps need, without losses or post-processing.

    Taps in backbone and neck need ``extract_feat`` alone; a tapped dense head is run on its
    features. Anything else falls back to the model's ``mode='tensor'``.

    Args:
        model (nn.Module): A model of MMDetection, MMSegmentation or MMPretrain.
        paths (Sequence[str]): Paths of the tapped modules.
        inputs (Tensor): Preprocessed images of shape (B, 3, H, W).
        data_samples (list, optional): Data samples of the images.
    """
    heads = [head for path in paths if (head := _head_of(model, path)) is not None]
    if not hasattr(model, 'extract_feat') or not all(_is_dense_head(model, head) for head in heads):
        model(inputs, data_samples, mode='tensor')
        return
    features = model.extract_feat(inputs)
    for head in dict.fromkeys(heads):
        head(features)


def _head_of(model: nn.Module, path: str) -> nn.Module | None:
    """The head that a tapped module belongs to; None for backbone and neck."""
    name, *rest = path.split('.')
    if name in ('backbone', 'neck'):
        return None
    head = getattr(model, name)
    # MMSegmentation keeps several heads of a kind in a list.
    return head[int(rest[0])] if isinstance(head, nn.ModuleList) and rest else head


def _is_dense_head(model: nn.Module, head: nn.Module) -> bool:
    """Whether the head's ``forward`` takes the features and nothing else."""
    if hasattr(model, 'forward_transformer'):  # DETR's heads take the decoder's output
        return False
    parameters = inspect.signature(head.forward).parameters.values()
    required = [p for p in parameters if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD]
    return len(required) == 1


@torch.no_grad()
def probe(model: nn.Module, paths: Sequence[str]) -> dict[str, list[Tensor]] | None:
    """Runs a model once on a blank image and reports the shapes at its taps.

    Args:
        model (nn.Module): The model; its training mode is left as found.
        paths (Sequence[str]): Paths of the tapped modules.

    Returns:
        dict, optional: The tensors of each tap for a single 128×128 image, without their data
        (device ``meta``). None if the model cannot be run without annotations.
    """
    modes = [(module, module.training) for module in model.modules()]
    device = next(model.parameters()).device
    try:
        with record(model.eval(), paths) as records:
            run_to_taps(model, paths, torch.zeros(1, 3, 128, 128, device=device))
    except DistillationError:
        raise
    except Exception:
        return None
    finally:
        for module, training in modes:
            module.training = training
    return {path: [x.to('meta') for x, _ in tensors] for path, tensors in records.items()}
