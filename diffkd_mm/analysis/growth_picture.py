"""How a step grows, as a picture."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

TITLES = dict(
    size='pixels of an image',
    batch='images of a step',
    levels='levels',
    channels='latent channels',
    evaluations='evaluations N',
    points='points',
)


def draw_growth(rows: Sequence[dict], path: Path) -> None:
    """Draws a column per axis: time above, memory below, beside the multiply-adds.

    Everything is relative to the first setting of its axis, on logarithmic scales.

    Args:
        rows (Sequence[dict]): See :func:`~diffkd_mm.analysis.growth.measure_growth`.
        path (Path): The PNG to write.
    """
    axes = list(dict.fromkeys(row['axis'] for row in rows))
    figure = Figure(figsize=(0.6 + 2.3 * len(axes), 5), layout='constrained')
    plots = figure.subplots(2, len(axes), squeeze=False, sharey=True)
    for columns, axis in zip(plots.T, axes):
        found = [row for row in rows if row['axis'] == axis]
        _draw_time(columns[0], found)
        _draw_memory(columns[1], found)
        for plot in columns:
            _finish(plot, [row['value'] for row in found])
        columns[1].set_xlabel(TITLES[axis], fontsize=8)
    low, high = plots[0, 0].get_ylim()
    ticks = [x for x in (0.25, 0.5, 1, 2, 4, 8, 16, 32) if low <= x <= high]
    plots[0, 0].set_yticks(ticks, [f'{x:g}' for x in ticks])
    for plot, label in zip(plots[:, 0], ('time', 'memory')):
        plot.set_ylabel(f"{label}, to the first setting's", fontsize=8)
    handles = {}
    for plot in figure.axes:
        handles |= dict(zip(*reversed(plot.get_legend_handles_labels())))
    figure.legend(handles.values(), handles, loc='outside lower center', ncols=4, fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


def _finish(plot: Axes, values: Sequence[int]) -> None:
    plot.set_xscale('log')
    plot.set_yscale('log')
    plot.set_xticks(values, [f'{value:,}' for value in values], rotation=30)
    plot.minorticks_off()
    plot.tick_params(labelsize=7)
    plot.grid(alpha=0.3)


def _relative(rows: Sequence[dict], key: str, to: str | None = None) -> list[float]:
    return [row[key] / rows[0][to or key] for row in rows]


def _draw_time(plot: Axes, rows: Sequence[dict]) -> None:
    values = [row['value'] for row in rows]
    plot.plot(values, _relative(rows, 'macs'), '--', color='grey', label='multiply-adds')
    plot.plot(values, _relative(rows, 'seconds'), 'o-', ms=3, color='C0', label='time, median')
    bounds = (_relative(rows, f'seconds_{x}', 'seconds') for x in ('min', 'max'))
    plot.fill_between(values, *bounds, color='C0', alpha=0.2, lw=0)


def _draw_memory(plot: Axes, rows: Sequence[dict]) -> None:
    values = [row['value'] for row in rows]
    plot.plot(values, _relative(rows, 'macs'), '--', color='grey', label='multiply-adds')
    saved = 'stored for the backward pass'
    plot.plot(values, _relative(rows, 'saved_bytes'), 'o-', ms=3, color='C1', label=saved)
    if rows[0]['peak_bytes']:
        plot.plot(values, _relative(rows, 'peak_bytes'), 's-', ms=3, color='C3', label='peak')
