"""A virtual environment: what is installed in it, and commands that run in it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping
from pathlib import Path


class InstallError(Exception):
    """Something the user has to know or do; its message is one clear sentence."""


class Venv:
    """A virtual environment and the commands that run in it.

    Args:
        path (Path): Its folder.
        log (str): Name of the file in it that takes what the commands print; one for each of those
            that run at a time. Defaults to ``'install.log'``.
    """

    def __init__(self, path: Path, log: str = 'install.log') -> None:
        self.path = path.absolute()
        self.python = self.path / 'bin' / 'python'
        self.log = self.path / log
        self.process: subprocess.Popen | None = None
        self.stopped = False
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

    def pip(
        self, *args: str | Path, failure: str | None, env: Mapping[str, str] | None = None
    ) -> bool:
        """Run pip; see :meth:`run`."""
        options = ['--disable-pip-version-check', '--no-input', '--progress-bar', 'off']
        command, *rest = map(str, args)
        if command == 'uninstall':
            options = options[:2]
        env = {**os.environ, 'PIP_USER': '0', **(env or {})}
        return self.run(
            [self.python, '-m', 'pip', command, *options, *rest], failure=failure, env=env
        )

    def install(self, *requirements: str, failure: str) -> None:
        """Install packages whose files have one of the hashes given, and nothing beside them.

        Args:
            *requirements (str): ``name==version`` with hashes, as :func:`read_hashes` returns them.
            failure (str): See :meth:`run`.
        """
        path = self.path / 'requirements.txt'
        path.write_text('\n'.join(requirements))
        # What is published as source is built with the tools installed, whose hashes are checked.
        options = ['--require-hashes', '--no-deps', '--no-build-isolation']
        self.pip('install', *options, '-r', path, failure=failure)

    def run(
        self,
        command: list[str | Path],
        failure: str | None,
        env: Mapping[str, str] | None = None,
    ) -> bool:
        """Run a command with its output in the log and a sign of life every 30 seconds.

        Returns:
            bool: Whether it succeeded.

        Raises:
            InstallError: With ``failure`` as message if the command fails and there is one, or if
                the environment was stopped.
        """
        if self.stopped:
            raise InstallError('stopped')
        start = time.monotonic()
        with self.log.open('a') as log:
            log.write(f'\n$ {" ".join(map(str, command))}\n')
            log.flush()
            process = self.process = subprocess.Popen(
                [str(part) for part in command],
                stdout=log,
                stderr=subprocess.STDOUT,
                env=env,
                start_new_session=True,
            )
            try:
                while process.poll() is None:
                    try:
                        process.wait(timeout=30)
                    except subprocess.TimeoutExpired:
                        minutes, seconds = divmod(round(time.monotonic() - start), 60)
                        say(f'      {minutes}:{seconds:02d}  {compiled_files(self.log)}'.rstrip())
            except BaseException:
                self.stop()
                raise
        if self.stopped:
            raise InstallError('stopped')
        if process.returncode != 0 and failure is not None:
            say(*explanation(self.log))
            raise InstallError(
                f'{failure} (exit code {process.returncode}); the reason is printed above, '
                f'the rest is in {self.log}'
            )
        return process.returncode == 0

    def stop(self) -> None:
        """End the command that runs, if there is one, with all that it started; start no other."""
        self.stopped = True
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)
            self.process.wait()


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
            name, _, version = line.split('#')[0].split(';')[0].partition('==')
            if name.strip():
                requirements[normalise(name.strip())] = version.strip() or None
    return requirements


def read_hashes(path: Path) -> dict[str, str]:
    """Return the requirements of a file with hashes, each with its hashes, by package."""
    blocks = re.split(r'\n(?=\w)', path.read_text(encoding='utf-8'))
    return {normalise(b.partition('==')[0]): b for b in blocks if not b.startswith('#')}
