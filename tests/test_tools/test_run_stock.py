"""`python -m diffkd_mm TOOL`: stock tools read configs that are based on ``mmseg::``."""

import subprocess
import sys
from pathlib import Path

import mmseg
import pytest

TOOL = Path(mmseg.__file__).parent / '.mim/tools/misc/print_config.py'


@pytest.fixture
def config(tmp_path):
    path = tmp_path / 'config.py'
    path.write_text(
        "_base_ = 'mmseg::_base_/models/fcn_unet_s5-d16.py'\n"
        "custom_imports = dict(imports=['diffkd_mm'], allow_failed_imports=False)\n"
    )
    return path


def run(folder, *command):
    command = [sys.executable, *map(str, command)]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder)


def test_stock_tool_reads_a_config_based_on_mmseg(config):
    options = ['--cfg-options', 'model.decode_head.channels=7']
    done = run(config.parent, '-m', 'diffkd_mm', TOOL, config, *options)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "type='UNet'" in done.stdout and 'channels=7' in done.stdout


def test_tool_imports_from_its_own_folder(tmp_path):
    (tmp_path / 'beside.py').write_text('VALUE = 41\n')
    tool = tmp_path / 'tool.py'
    tool.write_text('import sys, beside\nprint(beside.VALUE + 1, sys.argv[1:], __name__)\n')
    assert (
        run(tmp_path, '-m', 'diffkd_mm', tool, '-x').stdout.splitlines()[-1] == "42 ['-x'] __main__"
    )


@pytest.mark.parametrize('arguments', [[], ['missing.py']], ids=['none', 'missing'])
def test_usage(arguments, monkeypatch):
    from diffkd_mm.__main__ import main

    monkeypatch.setattr(sys, 'argv', ['diffkd_mm', *arguments])
    with pytest.raises(SystemExit, match='usage: python -m diffkd_mm TOOL'):
        main()
