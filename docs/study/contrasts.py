"""The contrasts of docs/study.md on every set that has been run, as a table and a picture.

    python docs/study/contrasts.py

Reads ``runs.csv`` beside it, prints the table and draws ``contrasts.png``.
"""

import csv
from collections import defaultdict
from pathlib import Path

from matplotlib.figure import Figure

from diffkd_mm.experiments.intervals import mean_interval
from diffkd_mm.experiments.plots import draw_rows
from diffkd_mm.tabular import markdown

FOLDER = Path(__file__).parent
# The metric of each column, and its strongest classic arm by the mean on the tuning split.
COLUMNS = {
    'digits 600': ('mAP', 'pkd'),
    'digits 2400': ('mAP', 'pkd'),
    'digits 2400, tuned there': ('mAP', 'pkd'),
    'CIFAR-10 short': ('top-1', 'kd'),
    'blood cells short': ('mAP', 'fitnet'),
    'blood cells, 2 tuning seeds': ('mAP', 'fitnet'),
    'CamVid short': ('mIoU', 'dist'),
}
# Columns whose runs are another set's but for some arms, which have a weight of their own.
SECOND_PICKS = {
    'digits 2400, tuned there': (
        'digits 2400',
        {
            'deep_projector': 'deep_projector, weight 0.15',
            'diffkd': 'diffkd, weight 0.15',
            'pkd': 'pkd, weight 1.5',
        },
    ),
    'blood cells, 2 tuning seeds': ('blood cells short', {'diffkd': 'diffkd, weight 3'}),
}
CONTRASTS = {
    'the diffusion: DiffKD − deep projector': ('diffkd', 'deep_projector'),
    'its layers: deep projector − FitNet': ('deep_projector', 'fitnet'),
    'the method: DiffKD − best classic': ('diffkd', 'classic'),
}
STUDENT = {'distilling: DiffKD − student alone': ('diffkd', 'student')}  # of another size


def read_differences(path: Path) -> dict[str, dict[str, list[float]]]:
    """Of every contrast and column the differences, seed by seed, of the reported runs.

    Args:
        path (Path): The record of all runs.
    """
    values: dict[tuple[str, str], dict[str, float]] = defaultdict(dict)
    with path.open() as file:
        for row in csv.DictReader(file):
            if row['split'] == 'test':
                values[row['set'], row['arm']][row['seed']] = float(row['value'])
    found: dict[str, dict[str, list[float]]] = {}
    for label, arms in (CONTRASTS | STUDENT).items():
        found[label] = {}
        for name, (_, classic) in COLUMNS.items():
            set_, picks = SECOND_PICKS.get(name, (name, {}))
            used = (classic if arm == 'classic' else arm for arm in arms)
            one, other = (values[set_, picks.get(arm, arm)] for arm in used)
            if pairs := [one[seed] - other[seed] for seed in one if seed in other]:
                found[label][name] = pairs
    return found


def table(differences: dict[str, dict[str, list[float]]]) -> str:
    """Mean differences with the half widths of their 95 % intervals; in bold what is shown."""
    names = [name for name in COLUMNS if any(name in sets for sets in differences.values())]
    rows = []
    for label, sets in differences.items():
        rows.append([label, *(cell(sets[name]) if name in sets else '' for name in names)])
    return markdown(['contrast', *names], rows)


def cell(values: list[float]) -> str:
    """A mean and the half width of its interval."""
    mean, low, high = mean_interval(values)
    text = f'{mean:+.1f} ± {high - mean:.1f}'.replace('-', '−')
    return f'**{text}**' if low > 0 or high < 0 else text


def draw(differences: dict[str, dict[str, list[float]]], path: Path) -> None:
    """Every seed, the mean and its interval, by column and contrast; without the student alone."""
    figure = Figure(figsize=(14, 4.6), layout='constrained')
    axes = list(figure.subplots(2, 4, sharey=True).flat)
    for axis in axes[len(COLUMNS) :]:
        axis.remove()
    for axis, (name, (metric, _)) in zip(axes, COLUMNS.items()):
        rows = {label.replace(': ', ':\n'): differences[label][name] for label in CONTRASTS}
        draw_rows(axis, rows)
        axis.axvline(0, color='grey', lw=1)
        axis.set_title(f'{name}, points of {metric}', fontsize=9)
    figure.savefig(path, dpi=150)


if __name__ == '__main__':
    found = read_differences(FOLDER / 'runs.csv')
    print(table(found))
    draw(found, FOLDER / 'contrasts.png')
