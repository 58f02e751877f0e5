"""RoI heads: on which regions the student's ran, and running the teacher's on the same."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn

from ..errors import DistillationError
from .families import roi_forward
from .recording import Record, Tap, record


@contextmanager
def record_regions(model: nn.Module, paths: Sequence[str]) -> Iterator[dict[str, list[Tensor]]]:
    """Records the regions that RoI extractors are called with while the context is open.

    Args:
        model (nn.Module): The model.
        paths (Sequence[str]): Paths of its RoI extractors.

    Yields:
        dict: Per path the regions of all calls in order, tensors of shape (n, 5).

    Raises:
        DistillationError: If a module is called with anything else than features and regions.
    """
    regions: dict[str, list[Tensor]] = {path: [] for path in paths}
    with ExitStack() as stack:
        for path in regions:

            def hook(module: nn.Module, args: tuple, kwargs: dict, path: str = path) -> None:
                if not torch.is_grad_enabled():
                    return  # the student chooses its samples (OHEM); this is not their run
                rois = args[1] if len(args) > 1 else kwargs.get('rois')
                if not isinstance(rois, Tensor) or rois.dim() != 2 or rois.size(1) != 5:
                    raise DistillationError(
                        f'regions={path!r} is a {type(module).__name__} and not a RoI extractor, '
                        'which is called with features and regions (n, 5).'
                    )
                # Some heads extract the same regions twice, at different scales.
                if not regions[path] or regions[path][-1] is not rois:
                    regions[path].append(rois)

            handle = model.get_submodule(path).register_forward_pre_hook(hook, with_kwargs=True)
            stack.callback(handle.remove)
        yield regions


def replay_roi_heads(
    model: nn.Module,
    taps: Sequence[Tap],
    features: Sequence[Tensor],
    regions: dict[str, list[Tensor]],
) -> dict[Tap, Record]:
    """Runs a model's RoI head on given regions and records its taps.

    Args:
        model (nn.Module): A two-stage detector of MMDetection.
        taps (Sequence[Tap]): Taps with ``regions``.
        features (Sequence[Tensor]): The model's features, one tensor per level.
        regions (dict): By an extractor's path the regions of its calls, each a tensor of shape
            (n, 5) of batch index and corners x1, y1, x2, y2 in pixels.

    Returns:
        dict: Per tap the tensors of all calls in order, see :func:`record`.

    Raises:
        DistillationError: If a tap is not in a RoI head, or there are no regions.
    """
    # Taps of one head on one set of regions share a run.
    runs: dict[tuple, list[str]] = {}
    for tap in taps:
        runs.setdefault((tap.regions, *roi_forward(model, tap.path)), []).append(tap.path)
    records = {}
    for (extractor, forward, *stage), paths in runs.items():
        if not regions[extractor]:
            raise DistillationError(
                f'regions={extractor!r} exists but was not called by the student; of a cascade, '
                f"name the extractor of a stage, such as '{extractor}.0'."
            )
        with record(model, paths) as found:
            for rois in regions[extractor]:
                getattr(model.roi_head, forward)(*stage, features, rois)
        records.update({Tap(path, extractor): tensors for path, tensors in found.items()})
    return records
