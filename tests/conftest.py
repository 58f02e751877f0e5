import sys
from pathlib import Path

import pytest
import torch
from mmengine.runner import CheckpointLoader, checkpoint

sys.path.insert(0, str(Path(__file__).parent))  # tests share `tiny`

import tiny  # noqa: E402

MMENGINE_SCHEMES = CheckpointLoader._schemes.copy()
MMENGINE_HTTP = checkpoint.load_from_http

FAMILIES = """# Families of models

What the tests distil by config alone, with tiny networks where they can be tiny. Two rows that work
can be student and teacher as far as their levels fit; `strides`, `student_levels`,
`teacher_levels`, `resize` and `channels_last` make them fit. Written by

```shell
python -m pytest tests/test_distillers/test_{detectors,segmentors,families}.py \\
    -m 'families or not families' --families-table docs/families.md
```

from the tests that passed. A new family is a row in one of their lists.

| kind | family | tap | state |
|---|---|---|---|
"""


def pytest_addoption(parser):
    parser.addoption('--families-table', type=Path, help='write the table of families to this file')


@pytest.fixture
def family(record_property):
    """A function that notes what a passing test shows: kind, family, tap and state."""

    def note(kind: str, name: str, tap: str, state: str) -> None:
        record_property('family', (kind, name, tap, state))

    return note


def pytest_terminal_summary(terminalreporter, config):
    path = config.getoption('--families-table')
    passed = terminalreporter.stats.get('passed', [])
    rows = {row for report in passed for key, row in report.user_properties if key == 'family'}
    if path is not None:
        kinds = ('detector', 'segmentor', 'classifier')
        lines = [FAMILIES]
        for kind, name, tap, state in sorted(rows, key=lambda row: (kinds.index(row[0]), row)):
            lines.append(f'| {kind} | `{name}` | `{tap}` | {state} |\n')
        path.write_text(''.join(lines))


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def mmengine_loaders(monkeypatch):
    """MMEngine reads checkpoints as it does by itself, whatever a test before told it."""
    monkeypatch.setattr(CheckpointLoader, '_schemes', MMENGINE_SCHEMES.copy())
    monkeypatch.setattr(checkpoint, 'load_from_http', MMENGINE_HTTP)


@pytest.fixture(scope='session')
def teacher_checkpoint(tmp_path_factory):
    """Weights of the tiny teacher, in the form of a published checkpoint."""
    torch.manual_seed(7)
    path = tmp_path_factory.mktemp('teacher') / 'teacher.pth'
    model = tiny.build(tiny.retinanet(channels=24))
    model.init_weights()
    torch.save(dict(meta=dict(epoch=12), state_dict=model.state_dict()), path)
    return path
