"""What the launchers do with a wrong number of processes."""

import subprocess
from pathlib import Path

import pytest

TOOLS = Path(__file__).parents[2] / 'tools'


@pytest.mark.parametrize('tool', [['dist_train.sh', 'CONFIG'], ['dist_test.sh', 'CONFIG', 'FILE']])
@pytest.mark.parametrize('number', ['0', '-1', 'x', '1.5'])
def test_a_wrong_number_of_processes(tool, number):
    name, *arguments = tool
    done = subprocess.run(
        [TOOLS / name, *arguments, number], capture_output=True, text=True, timeout=60
    )
    expected = f"error: GPUS is the number of processes, 1 or more, not '{number}'"
    assert (done.returncode, done.stderr.strip()) == (2, expected)
