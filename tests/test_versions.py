"""Versions that cannot work are refused in one sentence, and before they are imported."""

import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
import torch_names

from diffkd_mm import versions

ROOT = Path(__file__).parents[1]
WORKING = {
    'onedl': {'torch': '2.14.1+cu130', 'onedl-mmengine': '0.10.12', 'onedl-mmdetection': '3.5.1'},
    '2024': {'torch': '2.1.2', 'mmengine': '0.10.7', 'mmcv': '2.1.0', 'mmdet': '3.3.0'},
    'without ops': {'torch': '2.1.0a0+git1', 'mmengine-lite': '0.10.0', 'mmcv-lite': '2.0.0rc4'},
    'nothing': {},
}


@pytest.fixture
def installed(monkeypatch):
    """Lets packages seem to be installed."""

    def set_versions(packages: dict[str, str]) -> None:
        def version(name: str) -> str:
            if name not in packages:
                raise PackageNotFoundError(name)
            return packages[name]

        monkeypatch.setattr(versions, 'version', version)

    return set_versions


@pytest.mark.parametrize('packages', WORKING.values(), ids=WORKING)
def test_these_are_taken(installed, packages):
    installed(packages)
    versions.refuse_old_versions()


@pytest.mark.parametrize(
    'name, version, minimum',
    [
        ('torch', '2.0.1+cu118', '2.1'),
        ('torch', '1.13.1', '2.1'),
        ('mmengine', '0.7.4', '0.10'),
        ('mmcv', '1.7.2', '2.0'),
        ('mmcv-full', '1.7.2', '2.0'),
        ('mmdet', '2.28.2', '3.0'),
        ('mmsegmentation', '0.30.0', '1.0'),
        ('mmpretrain', '0.9', '1.0'),
    ],
)
def test_older_ones_are_refused(installed, name, version, minimum):
    installed(WORKING['2024'] | {name: version} if name != 'mmcv-full' else {name: version})
    expected = f'needs {name} {minimum} or newer, and {version} is'
    with pytest.raises(ImportError, match=re.escape(expected)):
        versions.refuse_old_versions()


@pytest.mark.parametrize('stack', ['', '-openmmlab'])
def test_the_table_of_stacks_names_the_pinned_versions(stack):
    lines = (ROOT / f'requirements/constraints{stack}.txt').read_text().splitlines()
    pins = dict(line.split('==') for line in lines if '==' in line and ';' not in line)
    of_table = {'torch': f'| 3.11 | {pins["torch"]} |', 'numpy': f'NumPy {pins["numpy"]}'}
    packages = [name for name in pins if name.removeprefix('onedl-').startswith('mm')]
    assert len(packages) == 5
    of_table |= {name: f'{name} {pins[name]}' for name in packages}
    rows = (ROOT / 'docs/stacks.md').read_text().splitlines()
    (row,) = (x for x in rows if x.startswith(of_table['torch']))
    assert [name for name, text in of_table.items() if text not in row] == []


IMPORT = """
import sys
from importlib import metadata

def version(name):
    if name == 'mmdet':
        return '2.28.2'
    raise metadata.PackageNotFoundError(name)

metadata.version = version
try:
    import diffkd_mm
except ImportError as error:
    print(error)
print([name for name in ('torch', 'mmengine') if name in sys.modules])
"""


def test_importing_the_package_says_so_before_it_imports_anything_old():
    command = [sys.executable, '-c', IMPORT]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    message, loaded = done.stdout.splitlines()
    assert message.startswith('diffkd_mm needs mmdet 3.0 or newer, and 2.28.2 is installed: see')
    assert loaded == '[]'


def test_names_of_pytorch_are_in_the_oldest_one():
    """Else the package may not even import there; what is newer goes through ``compat.py``."""
    known = set(torch_names.KNOWN.read_text().split())
    behind_a_check = {'torch.serialization.safe_globals'}
    unknown = {k: v for k, v in torch_names.used().items() if k not in known | behind_a_check}
    assert not unknown, f'{unknown}: run tests/torch_names.py with PyTorch 2.1'
    assert len(known) > 100 and all(map(torch_names.exists, known))
