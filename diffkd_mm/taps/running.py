"""Running a model as deep as its taps need."""

from collections.abc import Sequence
from weakref import WeakSet

from torch import Tensor, nn

from ..compat import OutOfMemoryError
from ..errors import DistillationError
from .families import predict, run_model, runs_whole
from .recording import Record, Tap, record
from .regions import replay_roi_heads

# Models whose `mode='tensor'` fails where predicting works, such as SAN.
_PREDICTING: WeakSet[nn.Module] = WeakSet()


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
    the model's ``mode='tensor'`` or, of models where that is broken, to predicting.

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
        features = run_or_predict(model, elsewhere, inputs, data_samples, found)
    records = {Tap(path): tensors for path, tensors in found.items()}
    on_regions = [tap for tap in taps if tap.regions is not None]
    if on_regions:
        if features is None:
            features = model.extract_feat(inputs)
        records.update(replay_roi_heads(model, on_regions, features, regions))
    return records


def run_or_predict(
    model: nn.Module,
    paths: Sequence[str],
    inputs: Tensor,
    data_samples: list | None,
    records: dict[str, Record],
) -> tuple[Tensor, ...] | None:
    """Runs the model for taps that are being recorded; as for predicting if the whole one fails.

    Args:
        model (nn.Module): The model.
        paths (Sequence[str]): Paths of the taps.
        inputs (Tensor): Images of shape (B, 3, H, W).
        data_samples (list, optional): Data samples of the images.
        records (dict): What has been recorded, emptied for a second run.

    Returns:
        tuple[Tensor, ...]: The neck's features, if they were computed alone.
    """
    if model in _PREDICTING:
        return predict(model, inputs, data_samples)
    try:
        return run_model(model, paths, inputs, data_samples)
    except (DistillationError, OutOfMemoryError):
        raise
    except Exception as cause:
        if not runs_whole(model, paths):
            raise
        for record_ in records.values():
            record_.clear()
        try:
            predict(model, inputs, data_samples)
        except Exception:
            raise cause from None
        _PREDICTING.add(model)
        return None
