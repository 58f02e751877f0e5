"""Following: which modules take what a layer outputs, found with a blank image."""

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from .families import run_model
from .probing import blank_image, left_as_found, sizes_to_try


def follow(model: nn.Module, paths: Sequence[str]) -> dict[str, tuple[int, list[str]]] | None:
    """Runs a model once on a blank image and follows the outputs of layers.

    Args:
        model (nn.Module): The model, which is left as found.
        paths (Sequence[str]): Paths of layers that output a tensor.

    Returns:
        dict: Per path how often the layer was called, and the paths of the modules without
        children that took its very output; None if the model cannot be run without annotations.
    """
    for size in sizes_to_try(model):
        try:
            with left_as_found(model):
                return _follow(model.eval(), paths, size)
        except Exception:
            continue
    return None


@torch.no_grad()
def _follow(
    model: nn.Module, paths: Sequence[str], size: tuple[int, int]
) -> dict[str, tuple[int, list[str]]]:
    calls = dict.fromkeys(paths, 0)
    behind: dict[str, list[str]] = {path: [] for path in paths}
    results: list[tuple[str, Tensor]] = []
    with ExitStack() as stack:
        for path in calls:

            def leave(module: nn.Module, args: tuple, output: Any, path: str = path) -> None:
                calls[path] += 1
                results.append((path, output))

            stack.callback(model.get_submodule(path).register_forward_hook(leave).remove)
        for name, module in model.named_modules():
            if next(module.children(), None) is not None:
                continue

            def enter(module: nn.Module, args: tuple, name: str = name) -> None:
                for path, output in results:
                    if any(x is output for x in args):
                        behind[path].append(name)

            stack.callback(module.register_forward_pre_hook(enter).remove)
        image, samples = blank_image(model, size)
        run_model(model, list(calls), image, samples)
    return {path: (calls[path], behind[path]) for path in calls}
