"""The report of ``tools/gpu_check.py``: tests by their functions, and what was measured."""

import platform
import re
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from importlib.metadata import packages_distributions, version
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

import torch

from diffkd_mm.tabular import markdown

from .timing import PHASES

PACKAGES = ('numpy', 'mmengine', 'mmcv', 'mmdet', 'mmseg', 'mmpretrain')


class Outcome(NamedTuple):
    """A test as pytest reported it.

    Attributes:
        function (str): Name of the test's function.
        case (str): Its parameters but for the device, empty without.
        state (str): ``'passed'``, ``'failed'`` or ``'skipped'``.
        message (str): Why it failed or was skipped, in one line.
        seconds (float): How long it took.
        figures (dict[str, float]): Numbers that it noted; of several under a name the largest.
    """

    function: str
    case: str
    state: str
    message: str
    seconds: float
    figures: dict[str, float]


def read_outcomes(path: Path) -> list[Outcome]:
    """Reads the file that pytest's ``--junitxml`` wrote."""
    return [_outcome(case) for case in ElementTree.parse(path).iter('testcase')]


def _outcome(case: ElementTree.Element) -> Outcome:
    function, _, parameters = case.get('name', '').partition('[')
    state, message = 'passed', ''
    for child in case:
        if child.tag in ('failure', 'error', 'skipped'):
            state = 'skipped' if child.tag == 'skipped' else 'failed'
            message = (child.get('message') or '').strip().partition('\n')[0]
    figures: dict[str, float] = {}
    for item in case.iter('property'):
        name, value = item.get('name', ''), float(item.get('value', 'nan'))
        figures[name] = max(value, figures.get(name, value))
    parameters = re.sub(r'^(cpu|cuda)-?', '', parameters.removesuffix(']'))
    return Outcome(function, parameters, state, message, float(case.get('time', 0)), figures)


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as a table in Markdown; what is in bytes (``…_bytes``) becomes MB."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    titles = [name.replace('_bytes', ', MB').replace('_', ' ') for name in names]
    cells = ([_cell(name, row[name]) if name in row else '' for name in names] for row in rows)
    return markdown(titles, cells).rstrip()


def _cell(name: str, value: Any) -> str:
    if value is None:
        return ''
    if name.endswith('_bytes'):
        return f'{value / 1e6:.0f}'
    if isinstance(value, float):
        return f'{value:.0e}' if 0 < abs(value) < 1e-3 else f'{value:.4g}'
    return str(value).replace('|', '\\|')


def summarize(outcomes: Sequence[Outcome]) -> str:
    """A row per function of tests, and every failure."""
    functions = dict.fromkeys(x.function for x in outcomes)
    rows = [_row(name, [x for x in outcomes if x.function == name]) for name in functions]
    total = ', '.join(f'{_count(outcomes, x)} {x}' for x in ('passed', 'failed', 'skipped'))
    parts = [f'Tests: {total}.', table(rows)]
    for x in outcomes:
        if x.state != 'passed':
            name = x.function + f'[{x.case}]' * bool(x.case)
            parts.append(f'- {x.state}: `{name}`: {x.message}')
    return '\n\n'.join(parts)


def _count(outcomes: Iterable[Outcome], state: str) -> int:
    return sum(x.state == state for x in outcomes)


def _row(name: str, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    figures = []
    for figure in dict.fromkeys(key for x in outcomes for key in x.figures):
        worst = max((x for x in outcomes if figure in x.figures), key=lambda x: x.figures[figure])
        figures.append(
            f'{figure} {worst.figures[figure]:.2g}' + f' ({worst.case})' * bool(worst.case)
        )
    return {
        'check': name.removeprefix('test_').replace('_', ' '),
        **{state: _count(outcomes, state) for state in ('passed', 'failed', 'skipped')},
        'seconds': f'{sum(x.seconds for x in outcomes):.1f}',
        'figures, the largest': '; '.join(figures),
    }


def benchmark_rows(result: Any) -> list[dict[str, Any]]:
    """What a benchmark's ``--json`` wrote, as rows."""
    if isinstance(result, list):
        return result
    if 'rows' in result:
        return result['rows']
    if 'seconds' not in result:
        return [{k: v for k, v in result.items() if not isinstance(v, list | dict)}]
    seconds, peaks = result['seconds'], result['peak_bytes']
    rows = [
        dict(part=x, seconds=seconds[x], share=seconds[x] / seconds['step'], peak_bytes=peaks[x])
        for x in (*PHASES, 'step')
    ]
    return [*rows, dict(part='saved for the backward pass', peak_bytes=result['saved_bytes'])]


def machine(device: str) -> str:
    """Device and versions, one a line."""
    lines = [f'- processor: {platform.processor() or platform.machine()}']
    if device == 'cuda':
        found = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
        lines = [f'- {x.name}, {x.total_memory / 2**30:.0f} GiB' for x in found]
        lines.append(f'- CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}')
    versions = [f'Python {platform.python_version()}', f'torch {torch.__version__}']
    distributions = packages_distributions()
    versions += [f'{name} {_version(name, distributions)}' for name in PACKAGES]
    return '\n'.join([*lines, f'- {", ".join(versions)}'])


def _version(name: str, distributions: Mapping[str, list[str]]) -> str:
    if name in distributions:  # importing takes seconds
        return version(distributions[name][0])
    try:
        return import_module(name).__version__
    except (ImportError, AssertionError):  # missing, or not made for the installed MMCV
        return 'missing'
