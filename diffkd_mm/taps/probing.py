"""Probing: the shapes at a model's taps, found with a blank image."""

from collections.abc import Sequence

import torch
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from ..errors import DistillationError
from .recording import Tap
from .running import run_to_taps

# Height and width, in pixels. At the second a window of a Swin transformer fits into stride 32.
PROBE_SIZES = (128, 256)


def blank_image(model: nn.Module, shape: tuple[int, int]) -> tuple[Tensor, list[BaseDataElement]]:
    """A preprocessed image of zeros, (1, 3, *shape), on the model's device, and its data sample."""
    sizes = dict.fromkeys(('img_shape', 'ori_shape', 'pad_shape', 'batch_input_shape'), shape)
    sample = BaseDataElement(metainfo=dict(sizes, scale_factor=(1.0, 1.0)))
    return torch.zeros(1, 3, *shape, device=next(model.parameters()).device), [sample]


def probe(
    *runs: tuple[nn.Module, Sequence[Tap]],
) -> tuple[list[dict[Tap, list[Tensor]]] | None, int]:
    """Runs models once on a blank square image and reports the shapes at their taps.

    Args:
        *runs (tuple): Each a model, whose training mode is left as found, and its taps, see
            :func:`run_to_taps`; on regions there are two, in one call.

    Returns:
        tuple: Per model the tensors of each tap for a single image, without their data (device
        ``meta``), or None if a model cannot be run without annotations; and the image's height and
        width in pixels, the first of :data:`PROBE_SIZES` that all models run on.
    """
    for size in PROBE_SIZES:
        shapes = [_probe(model, taps, size) for model, taps in runs]
        if None not in shapes:
            return shapes, size
    return None, size


@torch.no_grad()
def _probe(model: nn.Module, taps: Sequence[Tap], size: int) -> dict[Tap, list[Tensor]] | None:
    modes = [(module, module.training) for module in model.modules()]
    image, samples = blank_image(model, (size, size))
    rois = image.new_tensor([[0, 0, 0, 64, 64], [0, 32, 32, 127, 127]])
    try:
        regions = {extractor: [rois] for _, extractor in taps}
        records = run_to_taps(model.eval(), taps, image, samples, regions)
    except DistillationError:
        raise
    except Exception:
        return None
    finally:
        for module, training in modes:
            module.training = training
    return {tap: [x.to('meta') for x, _ in tensors] for tap, tensors in records.items()}
