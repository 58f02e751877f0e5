"""A comparison as a table, a CSV file and a picture."""

import csv
import statistics
from pathlib import Path

from matplotlib.figure import Figure

from .results import Summary, mean_and_deviation, percent


def write_table(summaries: list[Summary], metric: str, folder: Path) -> str:
    """Writes ``comparison.md`` and ``comparison.csv``; returns the Markdown.

    Metrics are in percent, with the sample standard deviation over the seeds. The CSV adds the
    final metric of every seed.
    """
    head = ['config', f'{metric} (%)', 'best (%)', 'seeds', 'parameters (M)', 's/iteration']
    lines = [f'| {" | ".join(head)} |', '|' + '---|' * len(head)]
    rows = []
    for summary in summaries:
        final, best = percent(summary.final, metric), percent(summary.best, metric)
        seeds = f'{len(final)}' + (
            f' (missing: {", ".join(map(str, summary.missing))})' if summary.missing else ''
        )
        cells = [
            summary.name,
            mean_and_deviation(final),
            mean_and_deviation(best),
            seeds,
            f'{summary.parameters:.2f}',
            f'{summary.seconds:.3f}' if final else '–',
        ]
        lines.append(f'| {" | ".join(cells)} |')
        rows.append(
            dict(
                config=summary.name,
                metric=metric,
                mean=statistics.mean(final) if final else None,
                deviation=statistics.stdev(final) if len(final) > 1 else None,
                best_mean=statistics.mean(best) if best else None,
                seeds=len(final),
                missing=' '.join(map(str, summary.missing)),
                parameters_m=summary.parameters,
                seconds_per_iteration=summary.seconds,
                **{f'seed_{seed}': x for seed, x in zip(summary.seeds, final, strict=True)},
            )
        )
    table = '\n'.join(lines) + '\n'
    folder.mkdir(parents=True, exist_ok=True)
    (folder / 'comparison.md').write_text(table)
    with (folder / 'comparison.csv').open('w', newline='') as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(key for row in rows for key in row)))
        writer.writeheader()
        writer.writerows(rows)
    return table


def plot_curves(summaries: list[Summary], metric: str, path: Path) -> None:
    """Draws the metric over the epochs: the mean over seeds, and the range as a band."""
    figure = Figure(figsize=(7, 4.5), layout='tight')
    axis = figure.subplots()
    for summary in summaries:
        if not summary.curves:
            continue
        steps = sorted(set.intersection(*(set(curve) for curve in summary.curves)))
        values = [percent([curve[step] for curve in summary.curves], metric) for step in steps]
        (line,) = axis.plot(
            steps, [statistics.mean(v) for v in values], 'o-', ms=3, label=summary.name
        )
        if len(summary.curves) > 1:
            low, high = [min(v) for v in values], [max(v) for v in values]
            axis.fill_between(steps, low, high, color=line.get_color(), alpha=0.15)
    axis.set_xlabel('epoch (or iteration)')
    axis.set_ylabel(f'{metric} (%)')
    axis.grid(alpha=0.3)
    if any(summary.curves for summary in summaries):
        axis.legend(fontsize=8)
    figure.savefig(path, dpi=150)
