"""Checkpoints on disk: written whole or not at all, and found again after a kill."""

import logging
import os
import re
import zipfile
from collections.abc import Collection
from pathlib import Path

from mmengine.fileio import LocalBackend, register_backend
from mmengine.logging import print_log

from ..errors import DistillationError

ATOMIC = 'diffkd_mm.atomic'
_NUMBERED = re.compile(r'(epoch|iter)_(\d+)\.pth')


class AtomicBackend(LocalBackend):
    """MMEngine's backend for local files, under which no kill leaves half a file or none at all.

    A file is written beside its place, synchronised with the disk and renamed. What is removed is
    noted only, until :meth:`remove_outdated` is called: MMEngine removes the old checkpoint before
    it writes the new one.
    """

    def __init__(self) -> None:
        self._outdated: list[str] = []

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Writes a file.

        Args:
            obj (bytes): Its content.
            filepath (str | Path): Its path; the folder is made if need be.

        Raises:
            DistillationError: If it cannot be written; what was there before is unchanged.
        """
        write_whole(
            Path(filepath),
            obj,
            'The checkpoints before it are untouched: make room and go on with --resume.',
        )

    def remove(self, filepath: str | Path) -> None:
        """Notes a file for :meth:`remove_outdated`."""
        self._outdated.append(str(filepath))

    def remove_outdated(self, but: Collection[str | None] = ()) -> None:
        """Removes what was noted, now that the new checkpoint is there.

        Args:
            but (Collection[str]): Paths that have been written again meanwhile.
        """
        while self._outdated:
            path = self._outdated.pop()
            if path not in but:
                Path(path).unlink(missing_ok=True)


register_backend(ATOMIC, AtomicBackend, force=True)


def write_whole(path: Path, content: bytes, advice: str) -> None:
    """Writes a file whole or not at all: beside its place, synchronised with the disk, renamed.

    Args:
        path (Path): Its path; the folder is made if need be.
        content (bytes): Its content.
        advice (str): What to do where it fails, a sentence for the message.

    Raises:
        DistillationError: If it cannot be written; what was there before is unchanged.
    """
    partial = path.with_name(path.name + '.partial')
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open('wb') as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        try:
            partial.unlink(missing_ok=True)
        except OSError:  # its folder is none
            pass
        raise DistillationError(
            f'{str(path)!r} could not be written: {error.strerror or error}. {advice}'
        ) from error


def _sync_folder(folder: Path) -> None:
    """Makes a renaming durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_whole(path: Path) -> bool:
    """Whether a file is a complete archive of ``torch.save``: all checksums fit.

    Nothing of it is unpickled.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except (OSError, EOFError, ValueError, NotImplementedError, zipfile.BadZipFile):
        return False


def numbered_checkpoints(folder: Path) -> list[Path]:
    """The checkpoints ``epoch_N.pth`` and ``iter_N.pth`` of a folder, the newest first."""
    found = [x for x in folder.glob('*.pth') if _NUMBERED.fullmatch(x.name) and x.is_file()]
    return sorted(found, key=lambda x: (x.stat().st_mtime_ns, checkpoint_number(x)), reverse=True)


def checkpoint_folder(work_dir: str | Path, out_dir: str | None = None) -> Path:
    """Where MMEngine's hook writes: with an ``out_dir``, its folder of the work dir's name."""
    work_dir = Path(work_dir).absolute()
    return work_dir if out_dir is None else Path(out_dir) / work_dir.name


def has_checkpoints(work_dir: str | Path, out_dir: str | None = None) -> bool:
    """Whether there is anything that a training could be resumed from.

    Args:
        work_dir (str | Path): The work dir.
        out_dir (str, optional): That of the checkpoint hook. Defaults to None.
    """
    note = Path(work_dir) / 'last_checkpoint'
    folder = checkpoint_folder(work_dir, out_dir)
    return _noted(note) is not None or bool(numbered_checkpoints(folder))


def latest_checkpoint(work_dir: str | Path, folder: str | Path | None = None) -> str | None:
    """The checkpoint to resume from.

    That is the one which the file ``last_checkpoint`` names, wherever the work dir was moved or
    copied to: a checkpoint of this name in the work dir comes before that of the original. If that
    file is missing or empty, if its checkpoint is missing or broken, or if one of a higher number
    was written after it, it is the newest checkpoint that is whole, and a line says so.

    Args:
        work_dir (str | Path): The work dir.
        folder (str | Path, optional): Where the checkpoints are. Defaults to None: in the work dir.

    Returns:
        str, optional: Its path; None if there are no checkpoints at all.

    Raises:
        DistillationError: If there are checkpoints, but all of them are broken.
    """
    note = Path(work_dir) / 'last_checkpoint'
    noted = _noted(note)
    problem = None
    if noted is not None and noted.is_dir():  # as DeepSpeed writes them
        return str(noted)
    if noted is None:
        problem = 'is empty' if note.is_file() else 'is missing'
    else:
        own = Path(folder or work_dir) / noted.name
        if not noted.is_file():
            problem = f'names {str(noted)!r}, which is not there'
            noted = own if own.is_file() else None
        elif own.is_file() and not own.samefile(noted):
            problem = f'names {str(noted)!r}, of which there is a copy here'
            noted = own
    folder = noted.parent if noted else Path(folder or work_dir)
    others = numbered_checkpoints(folder)
    candidates = others
    if noted is not None:
        newer = [x for x in others if _is_newer(x, noted)]
        candidates = [*newer, noted, *(x for x in others if x not in newer and x != noted)]
    broken = []
    for path in candidates:
        if is_whole(path):
            break
        broken.append(path.name)
    else:
        if broken:
            raise DistillationError(
                f'no checkpoint in {str(folder)!r} can be read ({", ".join(broken)}): delete them '
                'to start anew, or choose another work dir.'
            )
        return None
    if broken:
        problem = f'{", ".join(broken)} cannot be read'
    elif noted is not None and path != noted:
        problem = f'names {noted.name}, which is older'
    if problem:
        subject = '' if broken else f'{str(note)!r} '
        print_log(
            f'{subject}{problem}: resuming from {str(path)!r}, the newest that is whole.',
            logger='current',
            level=logging.WARNING,
        )
    return str(path)


def _noted(note: Path) -> Path | None:
    """The path that the file ``last_checkpoint`` holds."""
    text = note.read_text(errors='replace').strip() if note.is_file() else ''
    return Path(text) if text else None


def checkpoint_number(path: Path) -> int:
    """The epoch or iteration N of ``epoch_N.pth`` or ``iter_N.pth``."""
    return int(_NUMBERED.fullmatch(path.name)[2])


def _is_newer(path: Path, than: Path) -> bool:
    """Whether a checkpoint was written after another, by number and by time.

    The time alone is lost where files are copied; the number alone is higher, too, where an earlier
    training was longer.
    """
    kinds = [_NUMBERED.fullmatch(x.name) for x in (path, than)]
    return (
        all(kinds)
        and kinds[0][1] == kinds[1][1]
        and checkpoint_number(path) > checkpoint_number(than)
        and path.stat().st_mtime_ns >= than.stat().st_mtime_ns
    )
