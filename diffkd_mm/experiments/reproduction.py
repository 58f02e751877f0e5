"""The paper's tables beside what was trained here: finished runs are found, read and reported."""

import shlex
import statistics
import sys
from dataclasses import dataclass
from pathlib import Path

from diffkd_mm.tabular import markdown

from .fingerprints import fingerprint
from .launching import Launcher
from .paper_tables import PaperRow, PaperTable
from .report import mean_and_deviation
from .results import read_result, validated_at_the_end
from .runs import Arm, Run, resolve
from .scalars import SCALARS, last_step, read_scalars


@dataclass
class Outcome:
    """A row of a table and its runs.

    Attributes:
        row (PaperRow): The row.
        runs (list[Run]): One for each seed.
        values (dict[str, list[float]]): Figures of the finished runs in percent, by column; those
            that no evaluation tells are missing.
    """

    row: PaperRow
    runs: list[Run]
    values: dict[str, list[float]]


def plan_row(row: PaperRow, options: list[str], seeds: list[int], work_dir: Path) -> list[Run]:
    """The runs of a row, one for each seed.

    They live in ``WORK_DIR/CONFIG/seed_SEED``, as those of ``tools/compare.py``. If a single seed
    is asked for and only ``WORK_DIR/CONFIG`` was trained in, as ``tools/train.py`` does by default,
    that is the run.

    Raises:
        DistillationError: If the config cannot be read.
    """
    cfg = resolve(row.config, options)
    arm = Arm(row.config, [], options, cfg, fingerprint(cfg))
    folder = work_dir / arm.name
    runs = [Run(arm, seed, folder / f'seed_{seed}') for seed in seeds]
    if len(runs) == 1 and not runs[0].folder.exists() and any(folder.glob(SCALARS)):
        runs[0].folder = folder
    return runs


def read_outcome(table: PaperTable, row: PaperRow, runs: list[Run]) -> Outcome:
    """Reads the logs of a row's runs."""
    values: dict[str, list[float]] = {}
    for head, metric in table.metrics.items():
        found = [read_result(run, metric) for run in runs if metric and finished(run, table)]
        if any(found):
            values[head] = [result.splits['val'] for result in found if result]
    return Outcome(row, runs, values)


def finished(run: Run, table: PaperTable) -> bool:
    """Whether a run's last validation is known."""
    return validated_at_the_end(run, table.metric)


def state(run: Run, table: PaperTable) -> str:
    """``'finished'``, or what is missing."""
    if run.outdated:
        return 'of another version of the config'
    if finished(run, table):
        return 'finished'
    trained = [entry for entry in read_scalars(run.folder) if 'loss' in entry]
    if not trained:
        return 'missing'
    entry = max(trained, key=lambda entry: entry['step'])
    train_cfg = run.arm.cfg.train_cfg
    if 'epoch' in entry and 'max_epochs' in train_cfg:
        return f'unfinished: epoch {entry["epoch"]} of {train_cfg.max_epochs}'
    end = last_step(run.arm.cfg)
    return f'unfinished: iteration {entry["step"]}' + (f' of {end}' if end else '')


# --- reports ------------------------------------------------------------------------------------


def figures_text(figures: list[str | None]) -> str:
    """Figures side by side: ``40.6 / 60.9 / 43.9``."""
    return ' / '.join(x or '–' for x in figures) if any(figures) else '–'


def ours_text(outcome: Outcome, table: PaperTable) -> str:
    """Our figures as the paper's stand beside them, or in bold what is missing."""
    states = {run.seed: state(run, table) for run in outcome.runs}
    missing = {seed: text for seed, text in states.items() if text != 'finished'}
    if len(outcome.runs) == len(missing):
        return f'**{" / ".join(dict.fromkeys(missing.values()))}**'
    text = figures_text(
        [
            mean_and_deviation(outcome.values[x]) if x in outcome.values else None
            for x in table.metrics
        ]
    )
    absent = ', '.join(f'seed {seed} {text}' for seed, text in missing.items())
    return f'{text} (**{absent}**)' if missing else text


def difference(outcome: Outcome, table: PaperTable) -> float | None:
    """Ours less the paper's in the first figure."""
    head = next(iter(table.metrics))
    if head not in outcome.values or outcome.row.figures[0] is None:
        return None
    return statistics.mean(outcome.values[head]) - float(outcome.row.figures[0])


def table_text(table: PaperTable, outcomes: list[Outcome], launcher: Launcher) -> str:
    """The table as Markdown, and the commands that train what is missing.

    Args:
        table (PaperTable): The table.
        outcomes (list[Outcome]): One for each row that is reported.
        launcher (Launcher): Says what the commands are.
    """
    rows = []
    for outcome in outcomes:
        row = outcome.row
        paper = figures_text(row.figures) + (f' ± {row.deviation}' if row.deviation else '')
        gap = difference(outcome, table)
        gap_text = '–' if gap is None else f'{gap:+.2f}'
        rows.append(
            [row.label, f'`{row.config.as_posix()}`', paper, ours_text(outcome, table), gap_text]
        )
    heads = ' / '.join(table.metrics)
    kind = 'Figure' if table.name.startswith('fig') else 'Table'
    number = table.name.removeprefix('fig')
    kind, number = ('Appendix', f'C.{number[1:]}') if number[0] == 'c' else (kind, number)
    text = f'{kind} {number}: {table.title}. All figures are {heads} in percent.\n\n'
    text += markdown(
        ['row', 'config', 'paper', 'ours', f'ours − paper, {heads.split(" / ")[0]}'], rows
    )
    commands = [
        shell_command(launcher, run)
        for outcome in outcomes
        for run in outcome.runs
        if not finished(run, table)
    ]
    total = sum(len(outcome.runs) for outcome in outcomes)
    text += f'\n{total - len(commands)} of {total} runs are finished.'
    if commands:
        lines = '\n'.join(commands)
        text += f' `--run` trains the others, by these commands:\n\n```shell\n{lines}\n```'
    return text + '\n'


def shell_command(launcher: Launcher, run: Run) -> str:
    """The command that trains a run, as one types it."""
    variables = [f'{key}={value}' for key, value in launcher.environment(run).items()]
    command = ['python' if part == sys.executable else part for part in launcher.train(run)]
    return ' '.join([*variables, shlex.join(command)])


def csv_rows(table: PaperTable, outcomes: list[Outcome], launcher: Launcher) -> list[dict]:
    """One row for each row of the table, with the paper's figures, ours and the commands."""
    rows = []
    for outcome in outcomes:
        states = [state(run, table) for run in outcome.runs]
        content = dict(
            table=table.name,
            row=outcome.row.label,
            config=outcome.row.config.as_posix(),
            finished=states.count('finished'),
            missing=' '.join(
                str(run.seed) for run, text in zip(outcome.runs, states) if text != 'finished'
            ),
            state='; '.join(dict.fromkeys(states)),
            command='; '.join(shell_command(launcher, run) for run in outcome.runs),
        )
        for head, figure in zip(table.metrics, outcome.row.figures):
            values = outcome.values.get(head, [])
            content[f'{head}, paper'] = figure
            content[f'{head}, ours'] = round(statistics.mean(values), 4) if values else None
            deviation = round(statistics.stdev(values), 4) if len(values) > 1 else None
            content[f'{head}, deviation'] = deviation
        content['paper deviation'] = outcome.row.deviation
        rows.append(content)
    return rows
