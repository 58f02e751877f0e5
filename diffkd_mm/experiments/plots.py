"""A comparison as pictures."""

import statistics
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .intervals import mean_interval
from .results import Summary
from .runs import as_number, group_by_option
from .study import Contrast


def plot_curves(summaries: list[Summary], metric: str, path: Path) -> None:
    """Draws the metric along the training: the mean over seeds, and the range as a band."""
    figure = Figure(figsize=(7, 4.5), layout='tight')
    axis = figure.subplots()
    loops = [summary.arm.cfg.get('train_cfg') or {} for summary in summaries]
    units = {'epoch' if 'max_epochs' in loop else 'iteration' for loop in loops}
    for summary in summaries:
        curves = [result.curve for result in summary.results]
        if not curves:
            continue
        steps = sorted(set.intersection(*map(set, curves)))
        values = [[curve[step] for curve in curves] for step in steps]
        means = [statistics.mean(v) for v in values]
        (line,) = axis.plot(steps, means, 'o-', ms=3, label=summary.name)
        if len(curves) > 1:
            low, high = [min(v) for v in values], [max(v) for v in values]
            axis.fill_between(steps, low, high, color=line.get_color(), alpha=0.15)
    axis.set_xlabel(' or '.join(sorted(units)))
    axis.set_ylabel(f'{metric} (%)')
    axis.grid(alpha=0.3)
    if any(summary.results for summary in summaries):
        axis.legend(fontsize=8)
    if any(len(summary.results) > 1 for summary in summaries):
        axis.set_title('mean of the seeds, and their range', fontsize=9)
    figure.savefig(path, dpi=150)


def plot_intervals(
    summaries: list[Summary], contrasts: list[Contrast], metric: str, split: str, path: Path
) -> None:
    """Draws the arms, and below them the contrasts: every seed, the mean and its 95 % interval."""
    arms = {summary.name: summary.final(split) for summary in summaries}
    paired = {f'{x.first} −\n{x.second}': list(x.differences.values()) for x in contrasts}
    panels = [(arms, f'{metric} (%)')] + [(paired, 'difference, paired by seed')] * bool(paired)
    heights = [len(values) + 1 for values, _ in panels]
    figure = Figure(figsize=(7, 1 + 0.45 * sum(heights)), layout='constrained')
    axes = figure.subplots(len(panels), squeeze=False, gridspec_kw=dict(height_ratios=heights))
    for axis, (values, label) in zip(axes[:, 0], panels):
        draw_rows(axis, values)
        axis.set_xlabel(label)
    if paired:
        axes[1, 0].axvline(0, color='grey', lw=1)
    figure.savefig(path, dpi=150)


def plot_against(summaries: list[Summary], key: str, metric: str, split: str, path: Path) -> None:
    """Draws the metric over the values of an option: every seed, the mean and its 95 % interval.

    So are accuracies drawn over the number of evaluations (DiffKD, Fig. 4). Arms without the
    option, such as the student alone, are levels across.

    Raises:
        DistillationError: See :func:`group_by_option`.
    """
    finals = {summary.arm: summary.final(split) for summary in summaries}
    lines = group_by_option(list(finals), key)
    values = sorted({value for line in lines.values() for value in line}, key=as_number)
    figure = Figure(figsize=(6, 4), layout='constrained')
    axis = figure.subplots()
    for number, (name, line) in enumerate(lines.items()):
        color = f'C{number}'
        found = [(values.index(value), finals[arm]) for value, arm in line.items() if finals[arm]]
        for place, seeds in found:
            axis.plot([place] * len(seeds), seeds, 'o', ms=3, color=color, alpha=0.4)
            mean, bar = _mean_and_bar(seeds)
            axis.errorbar([place], [mean], yerr=bar, fmt='D', ms=5, color=color, capsize=3)
        means = [statistics.mean(seeds) for _, seeds in found]
        axis.plot([place for place, _ in found], means, color=color, label=name or None)
    drawn = [arm for line in lines.values() for arm in line.values()]
    others = [arm for arm in finals if arm not in drawn and finals[arm]]
    for number, arm in enumerate(others, len(lines)):
        mean = statistics.mean(finals[arm])
        axis.axhline(mean, ls='--', lw=1, color=f'C{number}', label=arm.name)
    axis.set_xticks(range(len(values)), map(str, values))
    axis.set_xlabel(key.rpartition('.')[2])
    axis.set_ylabel(f'{metric} (%)')
    axis.grid(alpha=0.3)
    if others or any(lines):
        axis.legend(fontsize=8)
    figure.savefig(path, dpi=150)


def _mean_and_bar(values: list[float]) -> tuple[float, list[list[float]] | None]:
    """The mean and how far its 95 % interval goes to both sides; None for a single seed."""
    mean, low, high = mean_interval(values)
    return mean, None if len(values) == 1 else [[mean - low], [high - mean]]


def draw_rows(axis: Axes, rows: dict[str, list[float]]) -> None:
    """Draws rows of values: each of them, their mean and its 95 % interval.

    Args:
        axis (Axes): Where to.
        rows (dict[str, list[float]]): Values by label, from the top.
    """
    for y, values in enumerate(rows.values()):
        if not values:
            continue
        axis.plot(values, [y] * len(values), 'o', ms=3, color='C0', alpha=0.4)
        mean, bar = _mean_and_bar(values)
        axis.errorbar([mean], [y], xerr=bar, fmt='D', ms=5, color='C0', capsize=3)
    axis.set_yticks(range(len(rows)), list(rows), fontsize=8)
    axis.set_ylim(len(rows) - 0.5, -0.5)
    axis.grid(axis='x', alpha=0.3)
