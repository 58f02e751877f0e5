"""The cache of wheels that were built on this machine.

Nobody else may write into it, and beside each wheel lies its digest: a wheel that is not as it was
built, or that somebody else made, counts as absent.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from .environment import InstallError, say


def cache_folder(env: Mapping[str, str]) -> Path:
    """Return the folder in which built wheels are kept."""
    if env.get('DIFFKD_MM_CACHE'):
        return Path(env['DIFFKD_MM_CACHE']).expanduser().absolute()
    base = env.get('XDG_CACHE_HOME') or '~/.cache'
    return Path(base).expanduser() / 'diffkd_mm'


def wheels(folder: Path) -> Iterator[Path]:
    """Find the wheels of a folder of the cache that may be installed; tell of others why not.

    Raises:
        InstallError: If the cache belongs to somebody else.
    """
    for path in (folder.parent.parent, folder.parent):
        secure(path)
    for wheel in folder.glob('*.whl'):
        if reason := objection(wheel):
            say(f'{wheel} is not used: {reason}')
        else:
            yield wheel


def secure(folder: Path) -> None:
    """Make a folder that nobody else can write into.

    Raises:
        InstallError: If it belongs to somebody else.
    """
    folder.mkdir(parents=True, exist_ok=True)
    info = folder.stat()
    if info.st_uid != os.getuid():
        raise InstallError(
            f'the cache {folder} belongs to another user, who could exchange what is installed '
            'from it: set DIFFKD_MM_CACHE to a folder of your own'
        )
    folder.chmod(info.st_mode & ~0o022)


def digest(wheel: Path) -> str:
    """Return the SHA-256 of a file."""
    return hashlib.sha256(wheel.read_bytes()).hexdigest()


def digest_file(wheel: Path) -> Path:
    """Return the file beside a wheel that holds its digest."""
    return wheel.with_name(f'{wheel.name}.sha256')


def objection(wheel: Path) -> str | None:
    """Return why a wheel in the cache must not be installed, if there is a reason."""
    for path in (wheel, digest_file(wheel)):
        if not path.exists():
            return 'there is no digest beside it'
        info = path.lstat()
        if info.st_uid != os.getuid():
            return f'{path.name} belongs to another user'
        if not stat.S_ISREG(info.st_mode) or info.st_mode & 0o022:
            return f'others may write to {path.name}'
    if digest_file(wheel).read_text() != digest(wheel):
        return 'it is not as it was built'
    return None


def keep(wheel: Path, target: Path) -> Path:
    """Move a built wheel into its folder of the cache, with its digest, and return its new path."""
    secure(target)
    kept = target / wheel.name
    # The digest first, and then a rename within one file system: nobody ever sees half a wheel.
    digest_file(kept).unlink(missing_ok=True)
    digest_file(kept).write_text(digest(wheel))
    for path in (wheel, digest_file(kept)):
        path.chmod(0o600)
    return wheel.replace(kept)
