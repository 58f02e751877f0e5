"""The form of the tables of wrong inputs."""

import contextlib
import io
import os
import re
import runpy
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import pytest

from diffkd_mm.errors import DistillationError

TOOLS = Path(__file__).parents[2] / 'tools'


@dataclass(frozen=True)
class Row:
    """One wrong input.

    Args:
        name (str): The test's name.
        act (Callable): Does what is wrong, in an empty folder that it is given.
        sentence (str): Regular expression that the answer matches.
    """

    name: str
    act: Callable[[Path], None]
    sentence: str

    def check(self, folder: Path) -> None:
        """The answer is one sentence, and nothing that the input brought along has run."""
        with pytest.raises((DistillationError, SystemExit)) as caught:
            self.act(folder)
        answer = str(caught.value)
        assert re.search(self.sentence, answer), answer
        assert '\n' not in answer and len(answer) < 600
        assert not (folder / 'ran').exists()


def run_tool(tool: str, *arguments: object) -> None:
    """Runs a script of ``tools/`` in this process, as the command line would.

    Raises:
        SystemExit: With the sentence that the user would read last.
    """
    path = str(TOOLS / tool)
    printed = io.StringIO()
    try:
        with (
            mock.patch.object(sys, 'argv', [path, *map(str, arguments)]),
            mock.patch.dict(os.environ, LOCAL_RANK='0'),
            contextlib.redirect_stderr(printed),
        ):
            runpy.run_path(path, run_name='__main__')
    except SystemExit as end:
        if not isinstance(end.code, int):
            raise
        raise SystemExit(printed.getvalue().strip().rpartition('\n')[2]) from end
