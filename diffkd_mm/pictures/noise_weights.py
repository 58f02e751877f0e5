"""How much noise student features are given (DiffKD, appendix C.4 and Fig. 5)."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure


def draw_noise_weights(
    weights: dict[str, np.ndarray], history: Sequence[tuple[int, dict[str, float]]] = ()
) -> Figure:
    """Draws the histogram of γ, and its mean along the training if there is some.

    Args:
        weights (dict[str, np.ndarray]): Values of γ between 0 and 1, one a sample, by level.
        history (Sequence[tuple]): Iterations and the mean γ of each level since the one before.
    """
    panels = 1 + (len(history) > 1)
    figure = Figure(figsize=(4.2 * panels, 3), layout='constrained')
    axes = figure.subplots(1, panels, squeeze=False)[0]
    lowest = min((values.min() for values in weights.values()), default=0)
    edges = np.linspace(min(lowest, 0.9), 1, 41)
    for name, values in weights.items():
        label = f'{name}, mean {values.mean():.3f}'
        share = np.full(len(values), 1 / len(values))
        axes[0].hist(values, edges, weights=share, histtype='step', lw=1.5, label=label)
    axes[0].set_xlabel('noise weight γ (1: no noise)', fontsize=9)
    axes[0].set_ylabel('share of the samples', fontsize=9)
    axes[0].legend(fontsize=8, loc='upper left')
    if len(history) > 1:
        steps = [step for step, _ in history]
        for name in weights:
            axes[1].plot(steps, [means[name] for _, means in history], 'o-', ms=3, label=name)
        axes[1].set_xlabel('iteration', fontsize=9)
        axes[1].set_ylabel('mean γ', fontsize=9)
    for axis in axes:
        axis.grid(alpha=0.3)
        axis.tick_params(labelsize=8)
    return figure
