"""Install diffkd_mm with a tested OpenMMLab stack into a virtual environment.

``make install``, ``make test`` and ``make demo`` call this script. It needs nothing but the
standard library, installs only what is missing, and returns at once where nothing changed.
Two packages need more than ``pip install``:

- **onedl-mmcv** is published as source only. Its ops are compiled against the torch that is
  installed, and the wheel is kept in a cache (``installer/mmcv_ops.py``).
- **OpenCV** arrives twice, as opencv-python (which needs libGL) and as opencv-python-headless,
  and both write to the same ``cv2`` folder. Only the second is left.

Environment variables:

- ``DIFFKD_MM_CACHE``: the cache, by default ``diffkd_mm`` in ``$XDG_CACHE_HOME`` or ``~/.cache``.
- ``FORCE_CUDA``: 1 compiles the CUDA ops without a GPU in sight, 0 never compiles them.
- ``TORCH_CUDA_ARCH_LIST``, ``MAX_JOBS``, ``CXX``: as in any build against torch.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import os
import shutil
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from installer.environment import InstallError, Venv, read_requirements, say
from installer.mmcv_ops import install_ops

ROOT = Path(__file__).resolve().parent.parent
CONSTRAINTS = ROOT / 'requirements' / 'constraints.txt'
REQUIREMENTS = [ROOT / 'requirements' / f'{name}.txt' for name in ('runtime', 'onedl', 'tests')]
TORCH = ('torch', 'torchvision', 'numpy')
OPENMMLAB = {'mmcv', 'mmcv-full', 'mmcv-lite', 'mmengine', 'mmdet', 'mmsegmentation', 'mmpretrain'}
MODULES = ('cv2', 'torchvision', 'mmcv.ops', 'mmdet', 'mmseg', 'mmpretrain')


def fingerprint(venv: Venv) -> str:
    """Return a digest of what was asked for and of what is installed.

    It changes with the requirements, with this script, with any package that somebody installs,
    upgrades or removes in the environment, when the project's folder moves, and when a GPU
    appears; as long as it is the same there is nothing to do.
    """
    scripts = [__file__, *sorted((ROOT / 'tools' / 'installer').glob('*.py'))]
    sources = [*REQUIREMENTS, CONSTRAINTS, ROOT / 'setup.py', ROOT / 'pyproject.toml', *scripts]
    digest = hashlib.sha256()
    for path in sources:
        digest.update(Path(path).read_bytes())
    surroundings = (str(ROOT), os.environ.get('FORCE_CUDA'), shutil.which('nvidia-smi') is None)
    digest.update(repr((surroundings, sorted(venv.installed().items()))).encode())
    return digest.hexdigest()


def create(venv: Venv) -> None:
    """Create the environment, or repair one whose creation was interrupted."""
    if (venv.path / 'bin' / 'pip').exists():
        if not venv.python.exists():
            raise InstallError(f'the Python that {venv.path} was made with is gone; remove it')
        return
    say(f'[1/6] creating {venv.path}')
    failure = (
        'the virtual environment could not be created (on Debian and Ubuntu this takes '
        f'apt-get install python3.{sys.version_info[1]}-venv)'
    )
    venv.run([sys.executable, '-m', 'venv', venv.path], failure=failure)


def refuse_openmmlab(venv: Venv) -> None:
    """Protect an environment with OpenMMLab's own packages from the fork's same import names.

    Raises:
        InstallError: If the environment has one of them.
    """
    if found := sorted(OPENMMLAB & venv.installed().keys()):
        raise InstallError(
            f"{venv.path} has OpenMMLab's own {', '.join(found)}, which the fork would overwrite: "
            'run pip install --no-deps -e . in it to add only diffkd_mm'
        )


def install_torch(venv: Venv, pins: Mapping[str, str | None]) -> None:
    """Install torch, which has to be there before mmcv is built."""
    if venv.lacks(TORCH, pins):
        say('[2/6] torch and torchvision: several GB with their CUDA libraries')
        failure = 'torch could not be installed'
        venv.pip('install', '-c', CONSTRAINTS, *TORCH, failure=failure)


def install_packages(venv: Venv, pins: Mapping[str, str | None]) -> None:
    """Install everything else."""
    if venv.lacks(read_requirements(REQUIREMENTS), pins):
        say('[4/6] OpenMMLab packages and tools')
        files = [part for path in REQUIREMENTS for part in ('-r', path)]
        failure = 'the requirements could not be installed'
        venv.pip('install', '-c', CONSTRAINTS, *files, failure=failure)


def install_opencv(venv: Venv, pins: Mapping[str, str | None]) -> None:
    """Leave opencv-python-headless as the only owner of the ``cv2`` folder."""
    name = 'opencv-python-headless'
    found = {package for package in venv.installed() if package.startswith('opencv')}
    if found == {name} and venv.ask('import cv2; print(1)'):
        return
    say('[5/6] OpenCV without a display')
    if found:
        failure = f'{" and ".join(sorted(found))} could not be removed'
        venv.pip('uninstall', '-y', *sorted(found), failure=failure)
    failure = f'{name} could not be installed'
    venv.pip('install', '--no-deps', f'{name}=={pins[name]}', failure=failure)


def install_project(venv: Venv) -> None:
    """Install diffkd_mm itself, editable, and import what it stands on."""
    say('[6/6] diffkd_mm itself, and a check that everything imports')
    options = ['--no-deps', '--no-build-isolation']
    venv.pip('install', *options, '-e', ROOT, failure='diffkd_mm could not be installed')
    code = ''.join(f'import {module}\n' for module in MODULES)
    venv.run([venv.python, '-c', code], failure='what was installed cannot be imported')


def install(venv: Venv) -> None:
    """Bring an environment to the state that the requirement files describe."""
    venv.path.mkdir(parents=True, exist_ok=True)
    with (venv.path / '.install.lock').open('w') as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f'waiting for another installation into {venv.path} to end')
            fcntl.flock(lock, fcntl.LOCK_EX)
        if venv.stamp.exists() and venv.stamp.read_text() == fingerprint(venv):
            return
        start = time.monotonic()
        venv.log.write_text('')
        pins = read_requirements([CONSTRAINTS])
        create(venv)
        refuse_openmmlab(venv)
        install_torch(venv, pins)
        install_ops(venv, pins['onedl-mmcv'], CONSTRAINTS)
        install_packages(venv, pins)
        install_opencv(venv, pins)
        install_project(venv)
        venv.stamp.write_text(fingerprint(venv))
        say(f'installed in {time.monotonic() - start:.0f} s')


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--venv', type=Path, default=ROOT / '.venv', help='default: %(default)s')
    args = parser.parse_args()
    if sys.version_info < (3, 11):
        sys.exit('error: the versions in requirements/constraints.txt need Python 3.11 or newer')
    try:
        install(Venv(args.venv))
    except InstallError as error:
        sys.exit(f'error: {error}')
    except KeyboardInterrupt:
        sys.exit('\nstopped; run it again to go on')


if __name__ == '__main__':
    main()
