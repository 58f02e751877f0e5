"""The contrasts of docs/study.md on every set that has been run, as a table and a picture.

    python docs/study/contrasts.py

Reads ``runs.csv`` beside it, prints the table and draws ``contrasts.png``.
"""

import csv
from collections import defaultdict
from pathlib import Path

from matplotlib.figure import Figure

from diffkd_mm.experiments.intervals import mean_interval
from diffkd_mm.experiments.report import markdown

FOLDER = Path(__file__).parent
# The strongest classic arm of each set, by the mean on its tuning split.
CLASSIC = {
    'digits 600': 'pkd',
    'CIFAR-10 short': 'kd',
    'blood cells short': 'fitnet',
    'CamVid short': 'dist',
}
METRICS = {
    'digits 600': 'mAP',
    'CIFAR-10 short': 'top-1',
    'blood cells short': 'mAP',
    'CamVid short': 'mIoU',
}
CONTRASTS = {
    'the diffusion: DiffKD − deep projector': ('diffkd', 'deep_projector'),
    'its layers: deep projector − FitNet': ('deep_projector', 'fitnet'),
    'the method: DiffKD − best classic': ('diffkd', 'classic'),
}
STUDENT = {'distilling: DiffKD − student alone': ('diffkd', 'student')}  # of another size


def read_differences(path: Path) -> dict[str, dict[str, list[float]]]:
    """Of every contrast and set the differences, seed by seed, of the reported runs.

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
        for name, classic in CLASSIC.items():
            one, other = (values[name, classic if arm == 'classic' else arm] for arm in arms)
            if pairs := [one[seed] - other[seed] for seed in one if seed in other]:
                found[label][name] = pairs
    return found


def table(differences: dict[str, dict[str, list[float]]]) -> str:
    """Mean differences with the half widths of their 95 % intervals; in bold what is shown."""
    names = [name for name in CLASSIC if any(name in sets for sets in differences.values())]
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
    """Every seed, the mean and its interval, by set and contrast; without the student alone."""
    figure = Figure(figsize=(9, 4.6), layout='constrained')
    labels = [label.replace(': ', ':\n') for label in CONTRASTS]
    for number, (axis, name) in enumerate(zip(figure.subplots(2, 2).flat, CLASSIC)):
        for y, label in enumerate(CONTRASTS):
            values = differences[label][name]
            mean, low, high = mean_interval(values)
            axis.plot(values, [y] * len(values), 'o', ms=3, color=f'C{y}', alpha=0.4)
            bar = [[mean - low], [high - mean]]
            axis.errorbar([mean], [y], xerr=bar, fmt='D', ms=5, color=f'C{y}', capsize=3)
        axis.axvline(0, color='grey', lw=1)
        axis.set_yticks(range(len(labels)), labels if number % 2 == 0 else [], fontsize=8)
        axis.set_ylim(len(labels) - 0.5, -0.5)
        axis.tick_params(axis='x', labelsize=8)
        axis.set_title(f'{name}, points of {METRICS[name]}', fontsize=9)
        axis.grid(axis='x', alpha=0.3)
    figure.savefig(path, dpi=150)


if __name__ == '__main__':
    found = read_differences(FOLDER / 'runs.csv')
    print(table(found))
    draw(found, FOLDER / 'contrasts.png')
