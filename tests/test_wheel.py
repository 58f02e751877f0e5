"""What `pip install` brings: built, installed elsewhere, and used from there."""

import email
import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import tiny
import torch
from mmengine.config import Config

ROOT = Path(__file__).parents[1]
BUILD = 'from setuptools import build_meta; import sys; build_meta.build_{}(sys.argv[1])'
# Folders and files of the repository that the build reads.
SOURCES = ('diffkd_mm', 'configs', 'tools', 'requirements', *(x.name for x in ROOT.glob('*.*')))
MAIN_CONFIG = 'retinanet_r50_x101_diffkd'


def run(*command, folder, **env):
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=folder,
        env={**os.environ, 'OMP_NUM_THREADS': '1', **env},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope='module')
def installed(tmp_path_factory):
    """A folder with the package from a wheel, which was built from a source distribution."""
    root = tmp_path_factory.mktemp('wheel')
    (root / 'clone').mkdir()
    for name in ('LICENSE', *SOURCES):
        if (ROOT / name).is_dir():
            ignored = shutil.ignore_patterns('__pycache__')
            shutil.copytree(ROOT / name, root / 'clone' / name, symlinks=True, ignore=ignored)
        elif (ROOT / name).exists():
            shutil.copy(ROOT / name, root / 'clone' / name)
    run('-c', BUILD.format('sdist'), root, folder=root / 'clone')
    (archive,) = root.glob('diffkd_mm-*.tar.gz')
    with tarfile.open(archive) as file:
        file.extractall(root, filter='data')
    run('-c', BUILD.format('wheel'), root, folder=archive.with_suffix('').with_suffix(''))
    (wheel,) = root.glob('*.whl')
    options = ['--no-deps', '--no-index', '--no-compile', '--disable-pip-version-check']
    target = root / 'site-packages'
    run('-m', 'pip', 'install', *options, '--target', target, wheel, folder=root)
    return target


def files(folder):
    """Files of a folder that belong to the project, as paths below it."""
    found = {path.relative_to(folder) for path in folder.rglob('*') if path.is_file()}
    return {x for x in found if '__pycache__' not in x.parts}


def test_configs_tools_and_metafiles_are_in_it(installed):
    mim = installed / 'diffkd_mm/.mim'
    assert files(mim / 'configs') == files(ROOT / 'configs')
    missing = files(ROOT / 'tools') - files(mim / 'tools')
    assert {x.parts[0] for x in missing} == {'install.py', 'installer', 'gpu_check.py'}
    assert os.access(mim / 'tools/dist_train.sh', os.X_OK)
    assert (mim / 'model-index.yml').read_text() == (ROOT / 'model-index.yml').read_text()
    assert not any(path.is_symlink() for path in mim.rglob('*'))


def test_it_asks_for_nothing_that_could_replace_what_is_there(installed):
    (path,) = installed.glob('diffkd_mm-*.dist-info/METADATA')
    needs = email.message_from_string(path.read_text()).get_all('Requires-Dist')
    needs = {need for need in needs if 'extra ==' not in need}
    assert needs == {'torch', 'numpy', 'matplotlib'}  # no version, no OpenMMLab


def test_a_step_of_the_main_config_from_the_installed_package(installed, tmp_path):
    """A config elsewhere inherits the package's; backbones are small, all else is as it is."""
    main = Config.fromfile(ROOT / 'configs' / f'{MAIN_CONFIG}.py').model.student
    student = tiny.shrink(main)
    teacher = dict(model=student, default_scope='mmdet')
    Config(teacher).dump(tmp_path / 'teacher.py')
    torch.save(tiny.build(student).state_dict(), tmp_path / 'teacher.pth')
    data = tiny.training(tmp_path, '').train_dataloader.to_dict()
    data['dataset']['num_images'] = 4
    changes = dict(
        model=dict(
            student=dict(
                backbone=dict(student.backbone.to_dict(), _delete_=True),
                neck=dict(in_channels=student.neck.in_channels),
            ),
            teacher=dict(config='teacher.py', checkpoint='teacher.pth'),
        ),
        train_dataloader=dict(data, _delete_=True),
        train_cfg=dict(max_epochs=1),
        **dict.fromkeys(('val_cfg', 'val_dataloader', 'val_evaluator')),
        **dict.fromkeys(('test_cfg', 'test_dataloader', 'test_evaluator')),
        default_hooks=dict(logger=dict(interval=1)),
    )
    lines = [
        f'_base_ = "diffkd_mm::{MAIN_CONFIG}.py"',
        *(f'{k} = {v!r}' for k, v in changes.items()),
    ]
    (tmp_path / 'mine.py').write_text('\n'.join(lines))
    log = run('-m', 'diffkd_mm', 'train', 'mine.py', folder=tmp_path, PYTHONPATH=str(installed))
    assert re.search(r'Epoch\(train\) .*fpn\.loss_kd: \d.*reg\.loss_kd: \d', log), log[-2000:]
    code = 'import diffkd_mm; print(diffkd_mm.__file__)'
    where = run('-c', code, folder=tmp_path, PYTHONPATH=str(installed)).splitlines()[-1]
    assert Path(where).is_relative_to(installed)
    weights = torch.load(tmp_path / 'work_dirs/mine/epoch_1.pth', weights_only=False)['state_dict']
    assert weights['bbox_head.retina_reg.weight'].shape == (36, 256, 3, 3)
