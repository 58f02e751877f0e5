"""The picture that fits a point's features."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from .saliency import draw_saliency
from .scores import draw_scores


def draw_features(
    images: Sequence[np.ndarray],
    features: dict[str, Sequence[Tensor]],
    level: int = 0,
    classes: Sequence[str] | None = None,
) -> tuple[str, Figure] | None:
    """Draws the saliency of maps, or the scores of logits.

    Args:
        images (Sequence[np.ndarray]): The first RGB images of the batch, which are drawn.
        features (dict[str, Sequence[Tensor]]): Maps (B, C, H, W) or vectors (B, C) of each level
            by title, the teacher's last.
        level (int): The level; the last one if there are fewer. Defaults to 0.
        classes (Sequence[str], optional): Names of the classes, of which logits have as many.

    Returns:
        tuple[str, Figure]: ``'saliency'`` or ``'scores'``, and the figure; None for vectors that
        are no logits.
    """
    chosen = {
        title: levels[min(level, len(levels) - 1)][: len(images)]
        for title, levels in features.items()
    }
    if all(x.dim() == 4 for x in chosen.values()):
        return 'saliency', draw_saliency(images, chosen)
    if classes is not None and any(x.size(1) != len(classes) for x in chosen.values()):
        return None
    return 'scores', draw_scores(images, chosen, classes)
