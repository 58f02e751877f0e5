"""What a file is that was taken for a checkpoint, by its first bytes."""

import zipfile
from pathlib import Path

# Of the files that `torch.save` wrote before PyTorch 1.6: a pickled number.
_LEGACY_TORCH = b'l\xfc\x9cF\xf9 j\xa8P\x19.'
_BEGINNINGS = {
    b'version https://git-lfs': 'a pointer of Git LFS, which "git lfs pull" replaces by the file',
    b'\x1f\x8b': 'compressed by gzip; unpack it first',
    b'BZh': 'compressed by bzip2; unpack it first',
    b'\xfd7zXZ': 'compressed by xz; unpack it first',
    b'\x28\xb5\x2f\xfd': 'compressed by zstd; unpack it first',
    b'7z\xbc\xaf': 'compressed by 7-Zip; unpack it first',
    b'\x93NUMPY': 'an array of NumPy',
    b'\x89HDF': 'an HDF5 file, as Keras writes them',
    b'\x89PNG': 'a picture',
    b'\xff\xd8\xff': 'a picture',
    b'%PDF': 'a PDF',
    b'\x7fELF': 'a program',
}


def is_safetensors(path: Path) -> bool:
    """Whether a file is of safetensors, whatever its name: the length of its JSON, then that."""
    with path.open('rb') as file:
        start = file.read(9)
    return start[8:] == b'{' and int.from_bytes(start[:8], 'little') < path.stat().st_size


def what_else(path: Path) -> str | None:
    """What a file is if it is no checkpoint of PyTorch or safetensors.

    Args:
        path (Path): An existing file. Only its beginning and a list of contents are read.

    Returns:
        str, optional: Follows "it is". None if it looks like a checkpoint.
    """
    size = path.stat().st_size
    with path.open('rb') as file:
        start = file.read(512)
    if not start:
        return 'empty'
    for beginning, kind in _BEGINNINGS.items():
        if start.startswith(beginning):
            return kind
    if start.startswith(b'PK\x03\x04'):
        return _what_else_archive(path, size)
    if start.startswith(b'\x80'):
        is_torch = _LEGACY_TORCH in start[:32]
        return None if is_torch else 'a pickle that torch.save did not write'
    if is_safetensors(path):
        return None
    if start[257:262] == b'ustar':
        return 'a tar archive; unpack it first'
    return _what_else_text(start) or f'of no known kind: it begins with {start[:8]!r}'


def _what_else_archive(path: Path, size: int) -> str | None:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        return f'cut off: its end is missing after {size} bytes'
    if any(name.endswith('/constants.pkl') for name in names):
        return 'a TorchScript program; save the state dict of its module'
    if any(name.endswith('/data.pkl') for name in names):
        return None
    if any(name.endswith('.npy') for name in names):
        return 'an archive of arrays of NumPy'
    return f'a zip archive ({", ".join(names[:2]) or "empty"}); unpack it first'


def _what_else_text(start: bytes) -> str | None:
    text = start.lstrip().lower()
    if text.startswith((b'<!doctype', b'<html', b'<?xml', b'<head', b'<script')):
        return 'a web page, such as a server answers that wants a login or has no such file'
    try:
        start[:500].decode()
    except UnicodeDecodeError as error:
        if error.start < 490:  # not just cut in the middle of a character
            return None
    if any(byte < 9 for byte in start):
        return None
    return 'a JSON file' if text.startswith((b'{', b'[')) else 'a text file'
