"""Install diffkd_mm with a tested OpenMMLab stack into a virtual environment.

``make install``, ``make test`` and ``make demo`` call this script. It needs nothing but the
standard library, installs only what is missing, and returns at once where nothing changed.
Two packages need more than ``pip install``:

- **onedl-mmcv** is published as source only. Its ops have to be compiled against the torch that
  is installed, and its ``setup.py`` asks for C++17 where recent torch headers demand C++20. It
  is built here, and the wheel is kept in a cache whose key holds all that it depends on.
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
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
CONSTRAINTS = ROOT / 'requirements' / 'constraints.txt'
REQUIREMENTS = [ROOT / 'requirements' / f'{name}.txt' for name in ('runtime', 'onedl', 'tests')]
TORCH = ('torch', 'torchvision', 'numpy')
BUILD_TOOLS = ('setuptools', 'wheel', 'ninja', 'psutil', 'packaging', 'numpy')
OPENMMLAB = {'mmcv', 'mmcv-full', 'mmcv-lite', 'mmengine', 'mmdet', 'mmsegmentation', 'mmpretrain'}
MODULES = ('cv2', 'torchvision', 'mmcv.ops', 'mmdet', 'mmseg', 'mmpretrain')

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


class InstallError(Exception):
    """Something the user has to know or do; its message is one clear sentence."""


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


class Venv:
    """A virtual environment and the commands that run in it."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.python = self.path / 'bin' / 'python'
        self.log = self.path / 'install.log'
        self.stamp = self.path / '.diffkd_mm_installed'
        self.ops_torch = self.path / '.mmcv_ops_built_with_torch'

    def installed(self) -> dict[str, str]:
        """Return name and version of every installed distribution, without starting Python."""
        folders = self.path.glob('lib/python3*/site-packages/*.dist-info')
        pairs = (folder.name[: -len('.dist-info')].partition('-') for folder in folders)
        return {normalise(name): version for name, _, version in pairs}

    def lacks(self, names: Iterable[str], pins: Mapping[str, str]) -> list[str]:
        """Return those of ``names`` that are not installed in the version of ``pins``."""
        installed = self.installed()
        return [name for name in names if not same_version(installed.get(name), pins.get(name))]

    def ask(self, code: str, *args: str) -> object:
        """Run ``code`` and return the JSON it prints last, or None if it fails."""
        command = [str(self.python), '-c', code, *args]
        done = subprocess.run(command, capture_output=True, text=True)
        with self.log.open('a') as log:
            log.write(f'\n$ {self.python} -c ...\n{done.stdout}{done.stderr}')
        return json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else None

    def pip(self, *args: str | Path, failure: str, env: Mapping[str, str] | None = None) -> None:
        """Run pip; see :meth:`run`."""
        options = ['--disable-pip-version-check', '--no-input', '--progress-bar', 'off']
        command, *rest = map(str, args)
        if command == 'uninstall':
            options = options[:2]
        env = {**os.environ, 'PIP_USER': '0', **(env or {})}
        self.run([self.python, '-m', 'pip', command, *options, *rest], failure=failure, env=env)

    def run(
        self,
        command: list[str | Path],
        failure: str,
        env: Mapping[str, str] | None = None,
    ) -> None:
        """Run a command with its output in the log and a sign of life every 30 seconds.

        Raises:
            InstallError: With ``failure`` as message if the command fails.
        """
        start = time.monotonic()
        with self.log.open('a') as log:
            log.write(f'\n$ {" ".join(map(str, command))}\n')
            log.flush()
            process = subprocess.Popen(
                [str(part) for part in command], stdout=log, stderr=subprocess.STDOUT, env=env
            )
            try:
                while process.poll() is None:
                    try:
                        process.wait(timeout=30)
                    except subprocess.TimeoutExpired:
                        minutes, seconds = divmod(round(time.monotonic() - start), 60)
                        say(f'      {minutes}:{seconds:02d}  {compiled_files(self.log)}'.rstrip())
            except BaseException:
                process.terminate()
                process.wait()
                raise
        if process.returncode != 0:
            say(*explanation(self.log))
            raise InstallError(
                f'{failure} (exit code {process.returncode}); the reason is printed above, '
                f'the rest is in {self.log}'
            )


def say(*lines: str) -> None:
    print(*lines, sep='\n', flush=True)


def last_command(log: Path) -> list[str]:
    """Return what the last command in the log printed."""
    lines = log.read_text(errors='replace').splitlines()
    start = max((i for i, line in enumerate(lines) if line.startswith('$ ')), default=0)
    return lines[start:]


def explanation(log: Path) -> list[str]:
    """Return the lines that most likely say why the last command failed."""
    lines = last_command(log)
    # A compiler's own message is hundreds of lines before the end.
    return [line for line in lines[:-20] if 'error:' in line.lower()][-5:] + lines[-20:]


def compiled_files(log: Path) -> str:
    """Return how far a running build is, from ninja's last ``[n/m]``, or nothing."""
    for line in reversed(last_command(log)):
        if match := re.match(r'\s*\[(\d+)/(\d+)\]', line):
            return f'compiled {match[1]} of {match[2]} files'
    return ''


# --- requirements -------------------------------------------------------------------------------


def normalise(name: str) -> str:
    """Return a distribution's name as PEP 503 writes it."""
    return re.sub(r'[-_.]+', '-', name).lower()


def same_version(installed: str | None, pin: str | None) -> bool:
    """Tell whether an installed version satisfies a pin, whatever its local part (``+cpu``)."""
    return installed is not None and pin in (None, installed, installed.split('+')[0])


def read_requirements(paths: Iterable[Path]) -> dict[str, str | None]:
    """Return the packages that requirement files name, each with its pinned version if any."""
    requirements: dict[str, str | None] = {}
    for path in paths:
        for line in path.read_text(encoding='utf-8').splitlines():
            name, _, version = line.split('#')[0].partition('==')
            if name.strip():
                requirements[normalise(name.strip())] = version.strip() or None
    return requirements


def fingerprint(venv: Venv) -> str:
    """Return a digest of what was asked for and of what is installed.

    It changes with the requirements, with this script, with any package that somebody installs,
    upgrades or removes in the environment, when the project's folder moves, and when a GPU
    appears; as long as it is the same there is nothing to do.
    """
    sources = [*REQUIREMENTS, CONSTRAINTS, ROOT / 'setup.py', ROOT / 'pyproject.toml', __file__]
    digest = hashlib.sha256()
    for path in sources:
        digest.update(Path(path).read_bytes())
    surroundings = (str(ROOT), os.environ.get('FORCE_CUDA'), shutil.which('nvidia-smi') is None)
    digest.update(repr((surroundings, sorted(venv.installed().items()))).encode())
    return digest.hexdigest()


# --- mmcv's ops ---------------------------------------------------------------------------------


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


def cache_folder(env: Mapping[str, str]) -> Path:
    """Return the folder in which built wheels are kept."""
    if env.get('DIFFKD_MM_CACHE'):
        return Path(env['DIFFKD_MM_CACHE']).expanduser().absolute()
    base = env.get('XDG_CACHE_HOME') or '~/.cache'
    return Path(base).expanduser() / 'diffkd_mm'


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


def working_ops(venv: Venv, facts: Facts, mmcv_version: str, device: str) -> bool:
    """Tell whether the environment's mmcv ops load, and fit this torch and this device."""
    if not same_version(venv.installed().get('onedl-mmcv'), mmcv_version):
        return False
    if venv.ops_torch.exists() and venv.ops_torch.read_text() != facts.torch:
        return False
    for library in venv.path.glob('lib/python3*/site-packages/mmcv/_ext*.so'):
        has_cuda = venv.ask(LOAD_OPS, str(library))
        return has_cuda is not None and (device == 'cpu' or bool(has_cuda))
    return False


def build_ops(venv: Venv, facts: Facts, mmcv_version: str, device: str, target: Path) -> Path:
    """Compile mmcv from source and return its wheel, in ``target``."""
    check_compiler(facts)
    # Again here, since other packages may have upgraded setuptools beyond what the build takes.
    failure = "the tools to compile mmcv's ops could not be installed"
    venv.pip('install', '-c', CONSTRAINTS, *BUILD_TOOLS, failure=failure)
    env = {**os.environ, 'MAX_JOBS': str(job_count(os.environ))}
    env.update(compiler_flags(os.environ))
    if device == 'cpu':
        env.update(FORCE_CUDA='0', CUDA_VISIBLE_DEVICES='')

    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix='.build-', dir=target.parent) as folder:
        source = fetch_source(venv, mmcv_version, Path(folder), env)
        setup_py = source / 'setup.py'
        setup_py.write_text(patch_standard(setup_py.read_text(), required_standard(facts.aten)))
        options = ['-v', '--no-deps', '--no-build-isolation', '--no-cache-dir']
        failure = "mmcv's ops could not be compiled"
        venv.pip('wheel', *options, '-w', f'{folder}/dist', source, failure=failure, env=env)
        (wheel,) = Path(folder, 'dist').glob('*.whl')
        target.mkdir(exist_ok=True)
        # A rename within one file system: nobody ever sees half a wheel.
        return wheel.replace(target / wheel.name)


def fetch_source(venv: Venv, mmcv_version: str, folder: Path, env: Mapping[str, str]) -> Path:
    """Download and unpack mmcv's source distribution and return the folder of its setup.py."""
    requirement = f'onedl-mmcv=={mmcv_version}'
    options = ['--no-deps', '--no-build-isolation', '--no-cache-dir', '--no-binary', 'onedl-mmcv']
    failure = f'the source of {requirement} could not be downloaded'
    venv.pip('download', *options, '-d', folder, requirement, failure=failure, env=env)
    (archive,) = folder.glob('*.tar.gz')
    shutil.unpack_archive(archive, folder / 'source')
    (setup_py,) = folder.glob('source/*/setup.py')
    return setup_py.parent


def install_ops(venv: Venv, pins: Mapping[str, str | None]) -> None:
    """Install mmcv with ops that fit the installed torch: from the cache, or compiled now."""
    answer = venv.ask(PROBE)
    if answer is None:
        say(*explanation(venv.log))
        raise InstallError('torch is installed but cannot be imported; the reason is printed above')
    facts, version = Facts(**answer), pins['onedl-mmcv']
    device = ops_device(facts, os.environ)
    if working_ops(venv, facts, version, device):
        venv.ops_torch.write_text(facts.torch)
        return

    target = cache_folder(os.environ) / 'wheels' / wheel_key(facts, version, device)
    for wheel in target.glob('*.whl'):
        say("[3/6] mmcv's ops, compiled earlier on this machine")
        if install_wheel(venv, wheel, facts, version, device):
            return
    jobs = job_count(os.environ)
    say(
        f"[3/6] compiling mmcv's ops for {device} with {jobs} jobs: about {max(1, 16 // jobs)} "
        f'minutes{", much more for CUDA" if device != "cpu" else ""}, once per machine'
    )
    wheel = build_ops(venv, facts, version, device, target)
    if not install_wheel(venv, wheel, facts, version, device):
        say(*explanation(venv.log))
        raise InstallError("mmcv's ops were compiled but do not load; the reason is printed above")


def install_wheel(venv: Venv, wheel: Path, facts: Facts, version: str, device: str) -> bool:
    """Install a wheel of mmcv and tell whether its ops load."""
    options = ['--no-deps', '--force-reinstall', '--no-index']
    venv.pip('install', *options, wheel, failure=f'{wheel} could not be installed')
    venv.ops_torch.write_text(facts.torch)
    return working_ops(venv, facts, version, device)


# --- the steps ----------------------------------------------------------------------------------


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
        install_ops(venv, pins)
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
