"""Running a model as deep as its taps need."""

from collections.abc import Sequence

from torch import Tensor, nn

from .families import run_model
from .recording import Record, Tap, record
from .regions import replay_roi_heads


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
        taps (Sequence[Tap]): What is tapped.
        inputs (Tensor): Preprocessed images of shape (B, 3, H, W).
        data_samples (list, optional): Data samples of the images.
        regions (dict, optional): The regions that taps ask for, see :func:`replay_roi_heads`.

    Returns:
        dict: Per tap the tensors of all calls in order, see :func:`record`.

    Raises:
        DistillationError: If a tap on regions is not in a RoI head, or there are no regions.
    """
    elsewhere = [tap.path for tap in taps if tap.regions is None]
    with record(model, elsewhere) as found:
        features = run_model(model, elsewhere, inputs, data_samples)
    records = {Tap(path): tensors for path, tensors in found.items()}
    on_regions = [tap for tap in taps if tap.regions is not None]
    if on_regions:
        if features is None:
            features = model.extract_feat(inputs)
        records.update(replay_roi_heads(model, on_regions, features, regions))
    return records
