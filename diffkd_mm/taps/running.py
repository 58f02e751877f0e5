"""Running a model as deep as its taps need."""

from collections.abc import Sequence

from torch import Tensor, nn

from ..errors import DistillationError
from .families import roi_forward, run_model
from .recording import Record, Tap, record


def run_to_taps(
    model: nn.Module,
    taps: Sequence[Tap],
    inputs: Tensor,
    data_samples: list | None = None,
    regions: dict[str, list[Tensor]] | None = None,
) -> dict[Tap, Record]:
    """Runs a model as deep as the taps need, without losses or post-processing, and records them.

    Taps in backbone and neck need ``extract_feat`` alone; a tapped dense head is run on its
    features, a tapped RoI head on its features in the given regions. Anything else falls back to
    the model's ``mode='tensor'``.

    Args:
        model (nn.Module): A model of MMDetection, MMSegmentation or MMPretrain.
        taps (Sequence[Tap]): The tapped modules' paths, each with the path of an extractor in
            ``regions`` or None.
        inputs (Tensor): Preprocessed images of shape (B, 3, H, W).
        data_samples (list, optional): Data samples of the images.
        regions (dict, optional): By an extractor's path the regions of its calls, each a tensor of
            shape (n, 5) of batch index and corners x1, y1, x2, y2 in pixels.

    Returns:
        dict: Per tap the tensors of all calls in order, see :func:`record`.

    Raises:
        DistillationError: If a tap on regions is not in a RoI head, or there are no regions.
    """
    elsewhere = [path for path, extractor in taps if extractor is None]
    with record(model, elsewhere) as found:
        features = run_model(model, elsewhere, inputs, data_samples)
    records = {Tap(path): tensors for path, tensors in found.items()}
    # Taps of one head on one set of regions share a run.
    runs: dict[tuple, list[str]] = {}
    for path, extractor in taps:
        if extractor is not None:
            runs.setdefault((extractor, *roi_forward(model, path)), []).append(path)
    if runs and features is None:
        features = model.extract_feat(inputs)
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
