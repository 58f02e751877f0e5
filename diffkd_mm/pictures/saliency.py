"""Where feature maps are large (DiffKD, Fig. 2 and 7)."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor


def saliency(feature: Tensor, tau: float = 0.5) -> Tensor:
    """Feature saliency H·W·softmax(mean_c X / τ) (DiffKD, eq. 10).

    Args:
        feature (Tensor): Feature of shape (B, C, H, W).
        tau (float): Temperature τ. Defaults to 0.5.

    Returns:
        Tensor: Saliency of shape (B, H, W) whose mean is 1.
    """
    batch, _, height, width = feature.shape
    logits = feature.float().mean(dim=1).flatten(1) / tau
    return height * width * logits.softmax(dim=1).view(batch, height, width)


def draw_saliency(images: Sequence[np.ndarray], features: dict[str, Tensor]) -> Figure:
    """Draws a row per image: the image and the saliency of each feature, dark to bright by itself.

    Args:
        images (Sequence[np.ndarray]): RGB images.
        features (dict[str, Tensor]): Maps of shape (B, C, H, W) by title.
    """
    maps = {title: saliency(feature).cpu().numpy() for title, feature in features.items()}
    shape = len(images), 1 + len(maps)
    height, width = images[0].shape[:2]
    figure = Figure(figsize=(2.2 * shape[1], 2.2 * height / width * shape[0] + 0.3), layout='tight')
    axes = figure.subplots(*shape, squeeze=False)
    for row, image in enumerate(images):
        axes[row][0].imshow(image)
        for axis, values in zip(axes[row][1:], maps.values()):
            axis.imshow(values[row], cmap='viridis')
    for axis, title in zip(axes[0], ['image', *maps]):
        axis.set_title(title, fontsize=10)
    for axis in axes.flat:
        axis.set_axis_off()
    return figure
