"""What was measured or counted, as tables for the terminal and as JSON."""

import json
from collections.abc import Sequence
from pathlib import Path

from rich.table import Column, Table

from diffkd_mm.taps import Output, worth_tapping

from .flops import Count
from .timing import PHASES


def tabulate_step(result: dict) -> Table:
    """A result of :mod:`~diffkd_mm.analysis.steps` as a table."""
    if 'teacher_ratio' in result:
        table = Table('teacher, s', 'its whole pass, s', 'ratio (min–max)', 'share of the step, %')
        table.add_row(
            f'{result["teacher_seconds"]:.4f}',
            f'{result["whole_seconds"]:.4f}',
            f'{result["teacher_ratio"]:.3f} '
            f'({result["teacher_ratio_min"]:.3f}–{result["teacher_ratio_max"]:.3f})',
            f'{100 * result["teacher_share"]:.0f}',
        )
        return table
    if 'ratio' in result:
        table = Table('student, s', 'in a distiller, s', 'ratio (min–max)')
        table.add_row(
            f'{result["student_seconds"]:.4f}',
            f'{result["distiller_seconds"]:.4f}',
            f'{result["ratio"]:.3f} ({result["ratio_min"]:.3f}–{result["ratio_max"]:.3f})',
        )
        return table
    seconds, peaks = result['seconds'], result['peak_bytes']
    table = Table(
        'part',
        'median, s',
        '%',
        'peak, MB',
        caption=f'saved for the backward pass: {result["saved_bytes"] / 1e6:.0f} MB',
    )
    for phase in (*PHASES, 'step'):
        share = 100 * seconds[phase] / seconds['step']
        table.add_row(phase, f'{seconds[phase]:.4f}', f'{share:.0f}', f'{peaks[phase] / 1e6:.0f}')
    return table


def tabulate_costs(rows: list[dict]) -> Table:
    """The rows of :mod:`~diffkd_mm.analysis.step_costs`."""
    table = Table('step', 'median, s', 'added, s', "ratio to FitNet's (min–max)", 'peak, MB')
    for row in rows:
        table.add_row(
            row['variant'],
            f'{row["seconds"]:.4f}',
            f'{row["added_seconds"]:.4f}',
            f'{row["ratio"]:.3f} ({row["ratio_min"]:.3f}–{row["ratio_max"]:.3f})',
            '–' if row['peak_bytes'] is None else f'{row["peak_bytes"] / 1e6:.0f}',
        )
    return table


def tabulate_teacher(rows: list[dict]) -> Table:
    """The variants of :mod:`~diffkd_mm.analysis.teacher_speed`, one a row."""
    table = Table(
        'teacher', 'median, s', 'ratio (min–max)', 'weights, MB', 'peak beside them, MB', 'at taps'
    )
    for row in rows:
        table.add_row(
            row['variant'],
            f'{row["seconds"]:.4f}',
            f'{row["ratio"]:.3f} ({row["ratio_min"]:.3f}–{row["ratio_max"]:.3f})',
            f'{row["weight_bytes"] / 1e6:.0f}',
            f'{row["peak_bytes"] / 1e6:.0f}',
            f'{row["difference"]:.0e}',
        )
    return table


def tabulate_counts(counts: dict[str, Count]) -> Table:
    """The counts as a table."""
    table = Table('part', 'parameters, M', 'MACs, G', 'undilated, G')

    def number(x: int | None, unit: float) -> str:
        if x is None:
            return 'per region'
        return f'{x / unit:.2f}' if x >= unit else f'{x / unit:.4f}'

    for name, count in counts.items():
        times = f' (run {count.runs} times)' if name.endswith('.denoiser') else ''
        macs = (number(x, 1e9) for x in (count.macs, count.undilated_macs))
        table.add_row(name + times, number(count.params, 1e6), *macs)
    return table


def tabulate_connectors(rows: list[dict]) -> Table:
    """The variants of a connector, one a row; what was not measured or counted is a dash."""
    table = Table(
        'variant',
        'first pass, s',
        'median, s',
        'ratio (min–max)',
        'saved, MB',
        'peak, MB',
        'operators on CPU, GPU',
    )
    for row in rows:
        peak, *operators = (row[x] for x in ('peak_bytes', 'operators_cpu', 'operators_gpu'))
        table.add_row(
            row['variant'],
            f'{row["first_seconds"]:.3f}',
            f'{row["seconds"]:.4f}',
            f'{row["ratio"]:.2f} ({row["ratio_min"]:.2f}–{row["ratio_max"]:.2f})',
            f'{row["saved_bytes"] / 1e6:.0f}',
            '–' if peak is None else f'{peak / 1e6:.0f}',
            ', '.join('–' if x is None else str(x) for x in operators),
        )
    return table


def write_json(result: dict | list[dict], path: Path) -> None:
    """Writes what was measured, and the folder for it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=2))


def tabulate_outputs(outputs: Sequence[Output], depth: int) -> Table:
    """What modules output: those worth tapping first, then all down to a depth of the path."""
    path = Column('module', no_wrap=True)  # to be copied
    shapes = Column('shape for one image', overflow='fold')
    table = Table('', path, 'class', 'channels', 'stride', shapes)
    first = worth_tapping(outputs)
    others = [x for x in outputs if not x.worth_tapping and x.path.count('.') < depth]
    for output in (*first, *others):
        strides = ['–' if x is None else str(x) for x in output.strides]
        table.add_row(
            '*' if output.worth_tapping else '',
            output.path,
            output.kind,
            ', '.join(map(str, dict.fromkeys(output.channels))),
            ', '.join(strides if any(output.strides) else []),
            ', '.join('×'.join(map(str, shape)) for shape in output.shapes),
            end_section=output is first[-1] if first else False,
        )
    return table
