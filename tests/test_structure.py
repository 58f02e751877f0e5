"""The arrows between the package's folders point the way docs/design.md says."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / 'diffkd_mm'
BASE = {'errors', 'options', 'registry', 'configs', 'compat', 'progress', 'tabular', 'versions'}
# What each folder may import beside BASE and itself.
MAY_IMPORT = dict(
    experiments={'distillers', 'reparam'},
    recipes={'analysis', 'distillers', 'taps'},
    analysis={'distillers', 'connectors', 'losses', 'taps', 'checkpoints'},
    hooks={'distillers', 'checkpoints', 'reparam', 'pictures'},
    distillers={'taps', 'reparam', 'checkpoints', 'diffusion'},
    connectors={'diffusion'},
    chains={'diffusion'},
    reparam={'taps'},
    models={'checkpoints'},
    losses=set(),
    pictures=set(),
    taps=set(),
    diffusion=set(),
    checkpoints=set(),
    optim=set(),
    datasets=set(),
    evaluation=set(),
)


def imported(file: Path) -> set[str]:
    """Names of the modules and folders of the package that a file imports."""
    folder = file.relative_to(PACKAGE).parts[:-1]
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if not isinstance(node, ast.ImportFrom):
            continue
        parts = (node.module or '').split('.') if node.module else []
        if node.level:
            parts = [*folder[: len(folder) - node.level + 1], *parts]
        elif parts[:1] == ['diffkd_mm']:
            parts = parts[1:]
        else:
            continue
        found |= {parts[0]} if parts else {alias.name for alias in node.names}
    return found


def test_every_folder_has_its_row():
    folders = {path.parent.name for path in PACKAGE.glob('*/__init__.py')}
    assert folders == set(MAY_IMPORT)


@pytest.mark.parametrize('folder', MAY_IMPORT)
def test_arrows_point_one_way(folder):
    found = set().union(*map(imported, (PACKAGE / folder).rglob('*.py')))
    assert found - {folder, *BASE} <= MAY_IMPORT[folder]
