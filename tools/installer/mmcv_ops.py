"""MMCV with ops that fit the installed torch: from a cache of wheels, or compiled.

MMCV, the fork's as well, is published as source only. Its ops have to be compiled against the torch
that is installed, and its ``setup.py`` asks for C++17 where recent torch headers demand C++20. The
wheel is kept in a cache whose key holds all that it depends on.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from .environment import InstallError, Venv, explanation, same_version, say
from .wheel_cache import cache_folder, keep, wheels

# Run inside the environment: what the compiled ops depend on.
PROBE = """
import json, sys, sysconfig
from pathlib import Path
import torch
from torch.utils.cpp_extension import CUDA_HOME
gpus = range(torch.cuda.device_count()) if torch.cuda.is_available() else ()
include = Path(torch.__file__).parent / 'include'
print(json.dumps(dict(
    python='cp%d%d' % sys.version_info[:2],
    platform=sysconfig.get_platform(),
    torch=torch.__version__,
    gpus=sorted({'%d.%d' % torch.cuda.get_device_capability(i) for i in gpus}),
    nvcc=CUDA_HOME is not None and (Path(CUDA_HOME) / 'bin' / 'nvcc').exists(),
    aten=(include / 'ATen' / 'ATen.h').read_text()[:2000],
    include=sysconfig.get_path('include'))))
"""

# Run inside the environment: load the compiled ops by themselves, since mmcv's own import needs
# packages that may not be there yet. Prints whether they hold CUDA code.
LOAD_OPS = """
import importlib.util, json, sys
import torch
spec = importlib.util.spec_from_file_location('_ext', sys.argv[1])
ops = importlib.util.module_from_spec(spec)
spec.loader.exec_module(ops)
print(json.dumps(ops.get_compiling_cuda_version() != 'not available'))
"""


class Facts(NamedTuple):
    """What compiled ops depend on, as ``PROBE`` reports it."""

    python: str
    """Python tag, such as ``cp311``."""
    platform: str
    """Operating system and processor, such as ``linux-x86_64``."""
    torch: str
    """torch's version with its local part, such as ``2.14.1+cu130``."""
    gpus: list[str]
    """Compute capabilities of the visible GPUs, such as ``['9.0']``."""
    nvcc: bool
    """Whether torch finds the CUDA compiler."""
    aten: str
    """The beginning of torch's ``ATen.h``, which names the C++ standard it demands."""
    include: str
    """The folder of ``Python.h``."""


def ops_device(facts: Facts, env: Mapping[str, str]) -> str:
    """Return what mmcv's ops are compiled for: ``cpu``, or ``cuda-`` and the GPU architectures.

    Raises:
        InstallError: If CUDA ops are wanted and there is no compiler for them.
    """
    force = env.get('FORCE_CUDA')
    if force == '0' or (force != '1' and not facts.gpus):
        return 'cpu'
    if not facts.nvcc:
        raise InstallError(
            "mmcv's ops have to be compiled for the GPU, and nvcc was not found: install the CUDA "
            'toolkit of the version torch was built with, set CUDA_HOME if it is in an unusual '
            'place, or set FORCE_CUDA=0 to compile them for the CPU only'
        )
    architectures = env.get('TORCH_CUDA_ARCH_LIST') or ' '.join(facts.gpus) or 'all'
    return 'cuda-' + re.sub(r'[^\w.+]+', '_', architectures)


def wheel_key(facts: Facts, mmcv_version: str, device: str) -> str:
    """Return the name of the cache folder of one build; pip's own cache ignores torch's version."""
    parts = (facts.python, f'torch{facts.torch}', f'mmcv{mmcv_version}', device, facts.platform)
    return re.sub(r'[^\w.+-]+', '_', '-'.join(parts))


def required_standard(aten: str) -> int:
    """Return the C++ standard that torch's headers demand, such as 20; 17 if they name none."""
    match = re.search(r'C\+\+(\d\d) or later', aten)
    return int(match[1]) if match else 17


def patch_standard(setup_py: str, standard: int) -> str:
    """Raise the C++ standard in mmcv's ``setup.py``, for the compiler and for nvcc."""
    if standard <= 17:
        return setup_py
    return re.sub(r'([-/]std[=:]c\+\+)1[47]\b', rf'\g<1>{standard}', setup_py)


def job_count(env: Mapping[str, str]) -> int:
    """Return how many files to compile at a time: one per core, each with 2 GiB of memory."""
    if env.get('MAX_JOBS'):
        return int(env['MAX_JOBS'])
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # macOS
        cores = os.cpu_count() or 1
    limits = [os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')]
    container = Path('/sys/fs/cgroup/memory.max')
    if container.exists() and (text := container.read_text().strip()).isdigit():
        limits.append(int(text))
    return max(1, min(cores, min(limits) // 2**31))


def compiler_flags(env: Mapping[str, str]) -> dict[str, str]:
    """Return the flags to compile with: optimised, as setuptools compiles unless told otherwise.

    Debug information doubles the time and is left out. ``CFLAGS`` take the place of setuptools'
    own flags, ``-O3`` among them, so a bare ``-g0`` would give ops two to four times slower on CPU.
    """
    return {name: env.get(name, '-O2 -DNDEBUG') + ' -g0' for name in ('CFLAGS', 'CXXFLAGS')}


def check_compiler(facts: Facts) -> None:
    """Compile three lines, to learn now and not minutes later that the compiler will not do.

    Raises:
        InstallError: If there is no C++ compiler, it is too old, or ``Python.h`` is missing.
    """
    standard = required_standard(facts.aten)
    compiler = os.environ.get('CXX', 'c++')
    options = [f'-std=c++{standard}', f'-I{facts.include}', '-fsyntax-only', '-x', 'c++', '-']
    minimum = {17: 201703, 20: 202002, 23: 202302}.get(standard, 201703)
    language = f'#include <vector>\n#if __cplusplus < {minimum}L\n#error too old\n#endif\n'
    advice = 'g++ 11 or newer will do (Debian and Ubuntu: apt-get install g++)'

    def compiles(code: str) -> bool:
        command = [*compiler.split(), *options]
        return subprocess.run(command, input=code, capture_output=True, text=True).returncode == 0

    if shutil.which(compiler.split()[0]) is None:
        raise InstallError(f"mmcv's ops need a C++ compiler; {compiler} was not found: {advice}")
    if not compiles(language):
        raise InstallError(f'{compiler} cannot compile C++{standard}, as torch demands: {advice}')
    if not compiles(language + '#include <Python.h>\n'):
        raise InstallError(
            f"mmcv's ops need Python.h, and it is not in {facts.include}: install the development "
            f'files of Python (Debian and Ubuntu: apt-get install python3-dev)'
        )


def working_ops(venv: Venv, facts: Facts, name: str, version: str, device: str) -> bool:
    """Tell whether the environment's mmcv ops load, and fit this torch and this device."""
    if not same_version(venv.installed().get(name), version):
        return False
    if venv.ops_torch.exists() and venv.ops_torch.read_text() != facts.torch:
        return False
    for library in venv.path.glob('lib/python3*/site-packages/mmcv/_ext*.so'):
        has_cuda = venv.ask(LOAD_OPS, str(library))
        return has_cuda is not None and (device == 'cpu' or bool(has_cuda))
    return False


def build_ops(
    venv: Venv, facts: Facts, name: str, requirement: str, device: str, target: Path
) -> Path:
    """Compile mmcv from source and return its wheel, in ``target``."""
    check_compiler(facts)
    env = {**os.environ, 'MAX_JOBS': str(job_count(os.environ))}
    env.update(compiler_flags(os.environ))
    if device == 'cpu':
        env.update(FORCE_CUDA='0', CUDA_VISIBLE_DEVICES='')

    with tempfile.TemporaryDirectory(prefix='.build-', dir=target.parent) as folder:
        source = fetch_source(venv, name, requirement, Path(folder), env)
        setup_py = source / 'setup.py'
        setup_py.write_text(patch_standard(setup_py.read_text(), required_standard(facts.aten)))
        options = ['-v', '--no-deps', '--no-build-isolation', '--no-cache-dir']
        failure = "mmcv's ops could not be compiled"
        venv.pip('wheel', *options, '-w', f'{folder}/dist', source, failure=failure, env=env)
        (wheel,) = Path(folder, 'dist').glob('*.whl')
        return keep(wheel, target)


def fetch_source(
    venv: Venv, name: str, requirement: str, folder: Path, env: Mapping[str, str]
) -> Path:
    """Download and unpack mmcv's source distribution and return the folder of its setup.py."""
    (folder / 'requirements.txt').write_text(requirement)
    options = ['--no-deps', '--no-build-isolation', '--no-cache-dir', '--no-binary', name]
    options += ['--require-hashes', '-d', folder, '-r', folder / 'requirements.txt']
    venv.pip('download', *options, failure="mmcv's source could not be downloaded", env=env)
    (archive,) = folder.glob('*.tar.gz')
    shutil.unpack_archive(archive, folder / 'source')
    (setup_py,) = folder.glob('source/*/setup.py')
    return setup_py.parent


def install_ops(venv: Venv, name: str, version: str, requirement: str) -> None:
    """Install mmcv with ops that fit the installed torch: from the cache, or compiled now.

    Args:
        venv (Venv): An environment with torch and what mmcv is built with.
        name (str): Distribution of MMCV, such as ``onedl-mmcv``.
        version (str): Its version.
        requirement (str): The same with hashes.

    Raises:
        InstallError: If torch cannot be imported, there is no compiler that will do, or the
            build fails.
    """
    answer = venv.ask(PROBE)
    if answer is None:
        say(*explanation(venv.log))
        raise InstallError('torch is installed but cannot be imported; the reason is printed above')
    facts = Facts(**answer)
    device = ops_device(facts, os.environ)
    if working_ops(venv, facts, name, version, device):
        venv.ops_torch.write_text(facts.torch)
        return

    target = cache_folder(os.environ) / 'wheels' / wheel_key(facts, version, device)
    for wheel in wheels(target):
        say("[4/6] mmcv's ops, compiled earlier on this machine")
        if install_wheel(venv, wheel, facts, name, version, device):
            return
    if prebuilt(venv, facts, name, version, device, os.environ.get('DIFFKD_MM_MMCV_WHEELS')):
        return
    jobs = job_count(os.environ)
    say(
        f"[4/6] compiling mmcv's ops for {device} with {jobs} jobs: about {max(1, 16 // jobs)} "
        f'minutes{", much more for CUDA" if device != "cpu" else ""}, once per machine'
    )
    wheel = build_ops(venv, facts, name, requirement, device, target)
    if not install_wheel(venv, wheel, facts, name, version, device):
        say(*explanation(venv.log))
        raise InstallError("mmcv's ops were compiled but do not load; the reason is printed above")


def prebuilt(
    venv: Venv, facts: Facts, name: str, version: str, device: str, source: str | None
) -> bool:
    """Install a wheel that others built, and tell whether there was one whose ops load.

    Args:
        venv (Venv): An environment with torch.
        facts (Facts): What the ops depend on.
        name (str): Name of the distribution: ``onedl-mmcv`` or ``mmcv``.
        version (str): Its version.
        device (str): What :func:`ops_device` says.
        source (str, optional): Folder or page with wheels.
    """
    if not source:
        return False
    say(f"[4/6] mmcv's ops from {source}, if a wheel there fits")
    with tempfile.TemporaryDirectory(prefix='.prebuilt-', dir=venv.path) as folder:
        options = ['--no-deps', '--only-binary', name, '--no-index', '-f', source]
        if not venv.pip('download', *options, '-d', folder, f'{name}=={version}', failure=None):
            return False
        (wheel,) = Path(folder).glob('*.whl')
        return install_wheel(venv, wheel, facts, name, version, device)


def install_wheel(
    venv: Venv, wheel: Path, facts: Facts, name: str, version: str, device: str
) -> bool:
    """Install a wheel of mmcv and tell whether its ops load."""
    options = ['--no-deps', '--force-reinstall', '--no-index']
    venv.pip('install', *options, wheel, failure=f'{wheel} could not be installed')
    venv.ops_torch.write_text(facts.torch)
    return working_ops(venv, facts, name, version, device)
