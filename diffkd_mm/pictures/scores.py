"""The scores that logits give the likeliest classes (DiffKD, Fig. 6)."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor


def draw_scores(
    images: Sequence[np.ndarray],
    logits: dict[str, Tensor],
    classes: Sequence[str] | None = None,
    top: int = 3,
) -> Figure:
    """Draws a row per image: the image, and the scores of the teacher's top classes.

    Args:
        images (Sequence[np.ndarray]): RGB images.
        logits (dict[str, Tensor]): Logits of shape (B, C) by title, the teacher's last.
        classes (Sequence[str], optional): Names of the classes. Defaults to None: their numbers.
        top (int): Number of classes. Defaults to 3.
    """
    scores = {title: x.float().softmax(dim=1).cpu() for title, x in logits.items()}
    *_, teacher = scores.values()
    best = teacher.topk(min(top, teacher.size(1))).indices.tolist()
    figure = Figure(figsize=(6.4, 0.5 + 1.5 * len(images)), layout='constrained')
    axes = figure.subplots(len(images), 2, squeeze=False, gridspec_kw=dict(width_ratios=[1, 2.6]))
    height = 0.8 / len(scores)
    for row, (image, indices) in enumerate(zip(images, best)):
        picture, axis = axes[row]
        picture.imshow(image)
        picture.set_axis_off()
        for number, (title, values) in enumerate(scores.items()):
            places = [y + (number - (len(scores) - 1) / 2) * height for y in range(len(indices))]
            found = values[row, indices].tolist()
            bars = axis.barh(places, found, height, label=title, color=f'C{number}')
            axis.bar_label(bars, [f'{x:.2f}' for x in found], padding=2, fontsize=6)
        axis.set_yticks(range(len(indices)), [_name(i, classes) for i in indices], fontsize=8)
        axis.invert_yaxis()
        axis.set_xlim(0, 1.12)
        axis.tick_params(axis='x', labelsize=7, labelbottom=row == len(images) - 1)
    axes[-1][1].set_xlabel('score', fontsize=8)
    figure.legend(
        *axes[0][1].get_legend_handles_labels(), loc='outside upper right', ncols=3, fontsize=8
    )
    return figure


def _name(index: int, classes: Sequence[str] | None) -> str:
    if classes is None or index >= len(classes):
        return f'class {index}'
    return str(classes[index])
