"""Install diffkd_mm with a tested OpenMMLab stack into a virtual environment.

``make install``, ``make test`` and ``make demo`` call this script, and ``make test-openmmlab`` with
``--stack openmmlab``. It needs nothing but the standard library, installs only what is missing, and
returns at once where nothing changed. What it downloads must have the hashes in
``requirements/hashes.txt``, or those of the other stack. Two packages need more than
``pip install``:

- **MMCV** is published as source only. Its ops are compiled against the torch that is installed,
  and the wheel is kept in a cache (``installer/mmcv_ops.py``).
- **OpenCV** arrives twice, as opencv-python (which needs libGL) and as opencv-python-headless,
  and both write to the same ``cv2`` folder. Only the second is left.

Environment variables:

- ``DIFFKD_MM_CACHE``: the cache, by default ``diffkd_mm`` in ``$XDG_CACHE_HOME`` or ``~/.cache``.
- ``DIFFKD_MM_ANY_TORCH``: 1 takes the build of torch that pip's own settings lead to, such as one
  from another index, without checking hashes; where there is no GPU, one for the CPU if there is.
- ``DIFFKD_MM_MMCV_WHEELS``: a folder or page with wheels of mmcv, such as the fork's own, of
  which one that fits is taken instead of compiling; its hash is not checked.
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
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from installer.environment import InstallError, Venv, read_hashes, read_requirements, say
from installer.mmcv_ops import install_ops

ROOT = Path(__file__).resolve().parent.parent
TORCH = ('torch', 'torchvision')
CUDA = ('cuda-', 'nvidia-', 'triton')  # prefixes of what torch's build for CUDA needs
BUILD_TOOLS = ('setuptools', 'wheel', 'ninja', 'psutil', 'packaging', 'numpy')
# What torch needs besides, to be imported while mmcv's ops are compiled.
TORCH_NEEDS = (
    *('filelock', 'fsspec', 'jinja2', 'markupsafe', 'mpmath', 'networkx', 'sympy'),
    'typing-extensions',
)
Pins = Mapping[str, str | None]  # versions by package
FORK = {'onedl-mmcv', 'onedl-mmengine', 'onedl-mmdetection'}
FORK |= {'onedl-mmsegmentation', 'onedl-mmpretrain'}
OPENMMLAB = {'mmcv', 'mmcv-full', 'mmcv-lite', 'mmengine', 'mmdet', 'mmsegmentation', 'mmpretrain'}
MODULES = ('cv2', 'torchvision', 'mmcv.ops', 'mmdet', 'mmseg', 'mmpretrain')


class Stack(NamedTuple):
    """Packages that were tested together, under OpenMMLab's import names."""

    title: str
    """Whose they are, as messages call it."""
    mmcv: str
    """The distribution that brings ``mmcv``."""
    foreign: frozenset[str]
    """Distributions of another stack, which would be overwritten."""
    requirements: list[Path]
    """Files that name what is wanted."""
    constraints: Path
    """Every version."""
    hashes: Path
    """The same with hashes."""
    last_python: tuple[int, int] | None
    """The newest Python that there are files for, None if any newer than 3.11 may do."""


def _stack(name: str, suffix: str, **options) -> Stack:
    folder = ROOT / 'requirements'
    return Stack(
        requirements=[folder / f'{x}.txt' for x in ('runtime', name, 'tests')],
        constraints=folder / f'constraints{suffix}.txt',
        hashes=folder / f'hashes{suffix}.txt',
        **options,
    )


STACKS = {
    'onedl': _stack(
        'onedl',
        '',
        title='the fork',
        mmcv='onedl-mmcv',
        foreign=frozenset(OPENMMLAB),
        last_python=None,
    ),
    'openmmlab': _stack(
        'openmmlab',
        '-openmmlab',
        title="OpenMMLab's stack",
        mmcv='mmcv',
        foreign=frozenset(FORK),
        last_python=(3, 11),
    ),
}


def check_python(stack: Stack, python: tuple[int, int]) -> None:
    """Refuse a Python that the versions of a stack do not run on.

    Raises:
        InstallError: If it is too old or too new.
    """
    if python < (3, 11):
        raise InstallError(f'the versions in {stack.constraints} need Python 3.11 or newer')
    if stack.last_python and python > stack.last_python:
        last = '.'.join(map(str, stack.last_python))
        raise InstallError(
            f'the versions in {stack.constraints} need Python {last}: PYTHON=python{last} of make '
            'names another'
        )


def fingerprint(venv: Venv, stack: Stack) -> str:
    """Return a digest of what was asked for and of what is installed.

    It changes with the requirements, with this script, with any package that somebody installs,
    upgrades or removes in the environment, when the project's folder moves, and when a GPU
    appears; as long as it is the same there is nothing to do.
    """
    scripts = [__file__, *sorted((ROOT / 'tools' / 'installer').glob('*.py'))]
    sources = [
        *stack.requirements,
        stack.constraints,
        stack.hashes,
        ROOT / 'setup.py',
        ROOT / 'pyproject.toml',
        *scripts,
    ]
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


def refuse_other_stack(venv: Venv, stack: Stack) -> None:
    """Protect an environment with another stack from packages with the same import names.

    Raises:
        InstallError: If the environment has one of them.
    """
    if found := sorted(stack.foreign & venv.installed().keys()):
        raise InstallError(
            f'{venv.path} has {", ".join(found)}, which {stack.title} would overwrite: '
            'run pip install --no-deps -e . in it to add only diffkd_mm'
        )


def install_packages(
    venv: Venv, pins: Pins, hashes: Mapping[str, str], names: Collection[str], step: str
) -> None:
    """Install those of some packages that are missing."""
    if missing := venv.lacks(names, pins):
        say(f'[{step}/6] {len(missing)} packages, such as {missing[0]}')
        failure = 'the requirements could not be installed'
        venv.install(*(hashes[name] for name in missing), failure=failure)


def install_the_rest(venv: Venv, pins: Pins, hashes: Mapping[str, str]) -> None:
    """Install everything but torch, what it needs for CUDA, mmcv and OpenCV with a display."""
    others = {*TORCH, *(stack.mmcv for stack in STACKS.values()), 'opencv-python'}
    names = [x for x in hashes if x not in others and not x.startswith(CUDA)]
    install_packages(venv, pins, hashes, names, step='5')


def has_gpu() -> bool:
    """Tell whether torch has a use for CUDA, on this machine or, by ``FORCE_CUDA``, on another."""
    return os.environ.get('FORCE_CUDA') == '1' or shutil.which('nvidia-smi') is not None


def install_torch(venv: Venv, stack: Stack, pins: Pins, hashes: Mapping[str, str]) -> None:
    """Install torch, which has to be there before mmcv is built."""
    if not venv.lacks(TORCH, pins):
        return
    failure = 'torch could not be installed'
    if os.environ.get('DIFFKD_MM_ANY_TORCH') == '1':
        say('[3/6] torch and torchvision, as pip finds them')
        cpu = [f'{name}=={pins[name]}+cpu' for name in TORCH]
        if has_gpu() or not venv.pip('install', '-c', stack.constraints, *cpu, failure=None):
            venv.pip('install', '-c', stack.constraints, *TORCH, failure=failure)
        return
    say('[3/6] torch and torchvision: several GB with their CUDA libraries')
    names = [x for x in hashes if x in TORCH or x.startswith(CUDA)]
    venv.install(*(hashes[name] for name in names), failure=failure)


def install_while_compiling(
    venv: Venv, stack: Stack, pins: Pins, hashes: Mapping[str, str]
) -> None:
    """Compile mmcv's ops, which takes the processor, while pip downloads the rest.

    Raises:
        InstallError: The first of the two that fails; the other is stopped.
    """
    compiling = Venv(venv.path, log='mmcv.log')
    compiling.log.write_text('')
    with ThreadPoolExecutor(1) as pool:
        mmcv = stack.mmcv
        ops = pool.submit(install_ops, compiling, mmcv, pins[mmcv], hashes[mmcv])
        # One that fails at once, as without a compiler, is not worth waiting for the rest.
        ops.add_done_callback(lambda done: done.exception() and venv.stop())
        try:
            install_the_rest(venv, pins, hashes)
            ops.result()
        except BaseException:
            if ops.done() and ops.exception():
                raise ops.exception() from None
            compiling.stop()
            raise


def install_opencv(venv: Venv, hashes: Mapping[str, str]) -> None:
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
    venv.install(hashes[name], failure=failure)


def install_project(venv: Venv) -> None:
    """Install diffkd_mm itself, editable, and import what it stands on."""
    say('[6/6] diffkd_mm itself, and a check that everything imports')
    options = ['--no-deps', '--no-build-isolation']
    venv.pip('install', *options, '-e', ROOT, failure='diffkd_mm could not be installed')
    code = ''.join(f'import {module}\n' for module in MODULES)
    venv.run([venv.python, '-c', code], failure='what was installed cannot be imported')


def install(venv: Venv, stack: Stack = STACKS['onedl']) -> None:
    """Bring an environment to the state that the requirement files describe."""
    try:
        venv.path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InstallError(
            f'--venv {venv.path}: no such folder can be made: {error.strerror}'
        ) from None
    with (venv.path / '.install.lock').open('w') as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f'waiting for another installation into {venv.path} to end')
            fcntl.flock(lock, fcntl.LOCK_EX)
        if venv.stamp.exists() and venv.stamp.read_text() == fingerprint(venv, stack):
            return
        start = time.monotonic()
        venv.log.write_text('')
        pins, hashes = read_requirements([stack.constraints]), read_hashes(stack.hashes)
        create(venv)
        refuse_other_stack(venv, stack)
        for names in (BUILD_TOOLS, TORCH_NEEDS):
            install_packages(venv, pins, hashes, names, step='2')
        install_torch(venv, stack, pins, hashes)
        install_while_compiling(venv, stack, pins, hashes)
        install_opencv(venv, hashes)
        install_project(venv)
        venv.stamp.write_text(fingerprint(venv, stack))
        say(f'installed in {time.monotonic() - start:.0f} s')


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--venv', type=Path, default=ROOT / '.venv', help='default: %(default)s')
    parser.add_argument('--stack', choices=STACKS, default='onedl', help='default: %(default)s')
    args = parser.parse_args()
    try:
        check_python(STACKS[args.stack], sys.version_info[:2])
        install(Venv(args.venv), STACKS[args.stack])
    except InstallError as error:
        sys.exit(f'error: {error}')
    except KeyboardInterrupt:
        sys.exit('\nstopped; run it again to go on')


if __name__ == '__main__':
    main()
