"""`python -m diffkd_mm TOOL`: stock tools that read configs based on ``mmseg::``, and our own."""

import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import mmseg
import pytest
from mmengine.config import Config
from mmengine.hub import get_config

import diffkd_mm
from diffkd_mm.__main__ import find_tool, main, shipped_tools
from diffkd_mm.configs import read_config
from diffkd_mm.errors import DistillationError
from diffkd_mm.launch import launch_config

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


@pytest.mark.parametrize('arguments', [[], ['--help']], ids=['none', 'help'])
def test_usage(arguments, monkeypatch):
    monkeypatch.setattr(sys, 'argv', ['diffkd_mm', *arguments])
    with pytest.raises(SystemExit, match='usage: python -m diffkd_mm TOOL.*compare, '):
        main()


class TestOwnTools:
    def test_every_tool_is_found_by_its_name(self):
        tools = Path(diffkd_mm.__file__).parents[1] / 'tools'
        scripts = {path for path in tools.rglob('*.py') if 'install' not in path.parts[-2]}
        scripts = {path.stem for path in scripts} - {'install', 'gpu_check'}
        launchers = {path.stem for path in tools.glob('*.sh')} - {'launch'}
        assert set(shipped_tools()) == scripts | launchers
        assert {'train', 'test', 'compare', 'list_taps', 'dist_train'} <= set(shipped_tools())

    @pytest.mark.parametrize(
        'name, file', {'train': 'train.py', 'export': 'export_student.py'}.items()
    )
    def test_a_beginning_will_do(self, name, file):
        assert find_tool(name).name == file

    @pytest.mark.parametrize(
        'name, message',
        {
            'dist_': 'dist_ may be dist_test or dist_train; there are .*compare, ',
            'nothing': 'there is no tool nothing; there are .*compare, ',
            'missing.py': 'there is no file missing.py.',
        }.items(),
    )
    def test_mistakes(self, name, message):
        with pytest.raises(SystemExit, match=f'python -m diffkd_mm: {message}'):
            find_tool(name)

    def test_a_tool_has_its_own_command_line(self, tmp_path):
        done = run(tmp_path, '-m', 'diffkd_mm', 'export', '--help')
        assert 'usage: export_student.py [-h]' in done.stdout

    def test_a_launcher_runs_this_python(self, tmp_path):
        done = run(tmp_path, '-m', 'diffkd_mm', 'dist_train', 'CONFIG', 'two')
        assert done.returncode == 2 and 'GPUS is the number of processes' in done.stderr


class TestOwnConfigs:
    NAME = 'diffkd_mm::retinanet_r50_x101_diffkd.py'
    FILE = Path(diffkd_mm.__file__).parents[1] / 'configs/retinanet_r50_x101_diffkd.py'

    @pytest.mark.parametrize(
        'read', [get_config, lambda name: read_config(name, 'a test')], ids=['hub', 'read_config']
    )
    def test_by_name(self, read):
        cfg = read(self.NAME)
        assert cfg.to_dict() == Config.fromfile(self.FILE).to_dict()
        assert Path(cfg.filename).name == self.FILE.name

    def test_inherited_without_a_scope(self, tmp_path):
        """The models in it are MMDetection's; a scope would have them looked for here."""
        (tmp_path / 'config.py').write_text(
            f'_base_ = {self.NAME!r}\nstudent = _base_.model.student'
        )
        cfg = Config.fromfile(tmp_path / 'config.py')
        assert cfg.model.student._scope_ == 'mmdet' and cfg.model.get('_scope_') is None
        cfg.pop('student')
        assert cfg.to_dict() == Config.fromfile(self.FILE).to_dict()

    def test_in_a_folder_and_without_a_metafile(self):
        cfg = get_config('diffkd_mm::demo/retinanet_digits_diffkd.py')
        assert Path(cfg.model.teacher.config).is_file()

    def test_missing(self):
        with pytest.raises(DistillationError, match='cannot load the config .*no_such.py'):
            read_config('diffkd_mm::no_such.py', 'a test')

    def test_the_work_dir_is_the_files_name(self):
        args = Namespace(config=self.NAME, cfg_options=None, work_dir=None, launcher='none')
        assert launch_config(args).work_dir == 'work_dirs/retinanet_r50_x101_diffkd'
