"""Runs a tool of this package by its name, or a stock one with this package imported first.

    python -m diffkd_mm train|test|compare|... [ARGUMENTS]
    python -m diffkd_mm TOOL.py [ARGUMENTS]

MMEngine resolves ``_base_ = 'mmseg::…'`` before a config's ``custom_imports``, and finds the
maintained fork of MMSegmentation only after :mod:`diffkd_mm.compat` has told it the name.
"""

import os
import runpy
import sys
from pathlib import Path

from .compat import MIM

TOOLS = MIM / 'tools'
# Of a clone alone, or read by other tools.
NO_TOOLS = {'install', 'launch', 'gpu_check'}


def shipped_tools() -> dict[str, Path]:
    """The package's tools and launchers by their names, which are those of the files."""
    found = sorted([*TOOLS.glob('*.py'), *TOOLS.glob('*.sh'), *TOOLS.glob('*/*.py')])
    packages = {path.parent for path in found if path.name == '__init__.py'}
    return {x.stem: x for x in found if x.stem not in NO_TOOLS and x.parent not in packages}


def find_tool(name: str) -> Path:
    """Finds a tool.

    Args:
        name (str): Path of a ``.py`` file, or the name of a tool of this package or a beginning of
            it that no other has: ``export`` for ``export_student.py``.

    Raises:
        SystemExit: If there is none, or more than one.
    """
    if name.endswith('.py'):
        if not Path(name).is_file():
            raise SystemExit(f'python -m diffkd_mm: there is no file {name}.')
        return Path(name)
    tools = shipped_tools()
    names = [name] if name in tools else [x for x in tools if x.startswith(name)]
    if len(names) != 1:
        what = f'{name} may be {" or ".join(names)}' if names else f'there is no tool {name}'
        raise SystemExit(f'python -m diffkd_mm: {what}; there are {", ".join(tools)}.')
    return tools[names[0]]


def main() -> None:
    """Gives the tool its own command line and folder of imports, and runs it."""
    if len(sys.argv) < 2 or sys.argv[1].startswith('-'):
        raise SystemExit(
            'usage: python -m diffkd_mm TOOL [ARGUMENTS]; TOOL is a file (TOOL.py) or one of '
            f'{", ".join(shipped_tools())}.'
        )
    tool = find_tool(sys.argv[1])
    if tool.suffix == '.sh':
        env = {'PYTHON': sys.executable, **os.environ}
        os.execvpe('bash', ['bash', str(tool), *sys.argv[2:]], env)
    sys.argv = [str(tool), *sys.argv[2:]]
    sys.path[0] = str(tool.resolve().parent)
    runpy.run_path(str(tool), run_name='__main__')


if __name__ == '__main__':
    main()
