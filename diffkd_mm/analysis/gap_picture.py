"""The gap between student and teacher features as a picture."""

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from .feature_gap import STAGES, Place
from .gap import Gap

COLORS = dict(zip(STAGES, ('C7', 'C0', 'C9', 'C1', 'C3')))


def draw_gaps(training: list[tuple[str, int | None, dict[Place, Gap]]], path: Path) -> None:
    """Draws a row per level: signal-to-noise along the training, and the last spectra.

    Args:
        training (list[tuple]): Per checkpoint its name, its iteration if it is known, and its gaps.
        path (Path): The PNG to write.
    """
    rows = list(dict.fromkeys(place[:2] for _, _, gaps in training for place in gaps))
    stages = [x for x in STAGES if any(x == place[2] for place in training[-1][2])]
    figure = Figure(figsize=(9, 0.6 + 2.7 * len(rows)), layout='constrained')
    for (point, level), (left, right) in zip(rows, figure.subplots(len(rows), 2, squeeze=False)):
        _draw_ratios(left, training, point, level)
        _draw_spectra(right, {x: training[-1][2].get((point, level, x)) for x in stages})
        left.set_title(f'{point}, level {level}', fontsize=9)
        right.set_title(f'{point}, level {level}: {training[-1][0]}', fontsize=9)
        for axis in (left, right):
            axis.grid(alpha=0.3)
            axis.tick_params(which='both', labelsize=7)
    lines = [Line2D([], [], color=COLORS[x], marker='o', ms=3, label=x) for x in stages]
    lines += [
        Line2D([], [], color='black', lw=2, label='teacher'),
        Line2D([], [], color='grey', label='as it is'),
        Line2D([], [], color='grey', ls='--', label='after the best linear map'),
    ]
    figure.legend(handles=lines, loc='outside lower center', ncols=4, fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


def _draw_ratios(axis: Axes, training: list, point: str, level: int) -> None:
    steps = [step for _, step, _ in training]
    dated = None not in steps and len(set(steps)) == len(steps)
    for stage in STAGES:
        gaps = [gaps.get((point, level, stage)) for _, _, gaps in training]
        for values, style in (
            ([gap and gap.snr for gap in gaps], '-'),
            ([gap and gap.fitted_snr for gap in gaps], '--'),
        ):
            found = [
                (x, y)
                for x, y in zip(steps if dated else range(len(steps)), values)
                if y is not None
            ]
            if found:
                axis.plot(*zip(*found), f'o{style}', ms=3, color=COLORS[stage])
    axis.set_xlabel('iteration' if dated else 'checkpoint', fontsize=8)
    if not dated:
        axis.set_xticks(range(len(training)), [name for name, *_ in training], fontsize=7)
    axis.set_ylabel('teacher over difference, dB', fontsize=8)


def _draw_spectra(axis: Axes, gaps: dict[str, Gap | None]) -> None:
    known = {stage: gap for stage, gap in gaps.items() if gap is not None and gap.bands}
    if not known:
        axis.text(0.5, 0.5, 'vectors have no spectrum', ha='center', transform=axis.transAxes)
        axis.set_axis_off()
        return
    last = list(known.values())[-1]
    axis.plot(last.bands, last.spectra['teacher'], 'o-', ms=3, lw=2, color='black')
    for stage, gap in known.items():
        for key, style in (('difference', '-'), ('fitted', '--')):
            if key in gap.spectra:
                axis.plot(gap.bands, gap.spectra[key], f'o{style}', ms=3, color=COLORS[stage])
    axis.set_yscale('log')
    axis.set_xlabel('spatial frequency, cycles per position', fontsize=8)
    axis.set_ylabel('energy (1: the teacher’s mean)', fontsize=8)
