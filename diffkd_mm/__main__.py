"""Runs a stock tool of an OpenMMLab package with this package imported first.

    python -m diffkd_mm TOOL.py [ARGUMENTS]

MMEngine resolves ``_base_ = 'mmseg::…'`` before a config's ``custom_imports``, and finds the
maintained fork of MMSegmentation only after :mod:`diffkd_mm.compat` has told it the name.
"""

import runpy
import sys
from pathlib import Path


def main() -> None:
    """Gives the tool its own command line and folder of imports, and runs it."""
    if len(sys.argv) < 2 or not Path(sys.argv[1]).is_file():
        raise SystemExit('usage: python -m diffkd_mm TOOL.py [ARGUMENTS]; TOOL.py is a file.')
    del sys.argv[0]
    sys.path[0] = str(Path(sys.argv[0]).resolve().parent)
    runpy.run_path(sys.argv[0], run_name='__main__')


if __name__ == '__main__':
    main()
