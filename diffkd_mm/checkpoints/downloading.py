"""Downloads of checkpoints, kept only if they are whole."""

import hashlib
import http.client
import os
import re
import shutil
import time
import urllib.error
import urllib.request
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit
from uuid import uuid4

import torch
from mmengine.dist import barrier
from mmengine.logging import print_log

from ..errors import DistillationError
from ..progress import Progress
from .file_kinds import what_else

TIMEOUT = 30  # seconds without a byte
ATTEMPTS = 3
PAUSE = 2  # seconds before the second attempt, twice that before the third
# torchvision's and OpenMMLab's names end in the first digits of the file's SHA-256.
_HASH = re.compile(r'-([0-9a-f]{8,64})\.\w+$')


class _Retry(Exception):
    """What may work the next time."""


def download(url: str) -> Path:
    """Downloads into PyTorch's cache of checkpoints, once per node; other processes wait.

    Args:
        url (str): An http(s) URL. If its name ends as ``-0a1b2c3d.pth``, these are the first digits
            of the file's SHA-256, which are checked.

    Returns:
        Path: The file in the cache.

    Raises:
        DistillationError: If the server does not answer, the file comes incomplete, does not have
            the hash of its name or is no checkpoint, after three attempts.
    """
    folder = Path(torch.hub.get_dir()) / 'checkpoints'
    name = PurePosixPath(urlsplit(url).path).name
    # Files of one name from different places must not be taken for each other.
    path = folder / f'{hashlib.sha256(url.encode()).hexdigest()[:8]}-{name}'
    if os.environ.get('LOCAL_RANK', '0') == '0':
        folder.mkdir(parents=True, exist_ok=True)
        _fetch(url, path)
    barrier()
    return path


def _fetch(url: str, path: Path) -> None:
    if path.is_file():
        problem = what_else(path)
        if problem is None:
            return
        print_log(f'{str(path)!r} is {problem}: downloaded anew', logger='current')
        path.unlink()
    shared = path.with_name(PurePosixPath(urlsplit(url).path).name)
    # Nodes that share the cache may have processes of one number.
    partial = path.with_name(f'{path.name}.{uuid4().hex}.partial')
    try:
        if shared.is_file() and (digits := hash_in_name(url)):  # torch.hub's, of the same cache
            if sha256(shared).startswith(digits):
                _link(shared, path, partial)
                return
        print_log(f'Downloading {url}', logger='current')
        for attempt in range(1, ATTEMPTS + 1):
            try:
                _fetch_once(url, partial)
                partial.replace(path)
                return
            except _Retry as error:
                if attempt == ATTEMPTS:
                    reason = f'{error} ({ATTEMPTS} attempts)'
                    raise DistillationError(_failed(url, reason)) from error
                print_log(f'{url}: {error}; trying again', logger='current')
                time.sleep(PAUSE * attempt)
            except OSError as error:
                raise DistillationError(_failed(url, error)) from error
    finally:
        partial.unlink(missing_ok=True)


def _link(source: Path, path: Path, partial: Path) -> None:
    """Makes a file known by another path; copies it where there are no links, or one by now."""
    try:
        os.link(source, path)
    except OSError:
        shutil.copyfile(source, partial)
        partial.replace(path)


def _failed(url: str, reason: object) -> str:
    return f'cannot download {url!r}: {reason}. Download it by other means and give its path.'


def _fetch_once(url: str, partial: Path) -> None:
    request = urllib.request.Request(url, headers={'User-Agent': 'diffkd_mm'})
    received, digest = 0, hashlib.sha256()
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer, partial.open('wb') as file:
            length = answer.headers.get('Content-Length')
            progress = Progress(
                int(length or 0) / 1e6, 'MB', lambda line: print_log(line, logger='current')
            )
            while chunk := answer.read(1 << 20):
                file.write(chunk)
                digest.update(chunk)
                received += len(chunk)
                progress.add(len(chunk) / 1e6)
    except urllib.error.HTTPError as error:
        reason = f'the server answers {error.code} {error.reason}'
        raise (_Retry(reason) if error.code >= 500 else OSError(reason)) from error
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        raise _Retry(getattr(error, 'reason', None) or error) from error
    except http.client.HTTPException as error:
        raise _Retry(f'it broke off ({error!r})') from error
    if length is not None and received != int(length):
        raise _Retry(f'{received} of {length} bytes came')
    if problem := what_else(partial):
        raise _Retry(f'what comes is {problem}')
    digits = hash_in_name(url)
    if digits and not digest.hexdigest().startswith(digits):
        found = digest.hexdigest()[: len(digits)]
        raise _Retry(f'its SHA-256 begins with {found} and not, as its name says, {digits}')


def hash_in_name(url: str) -> str | None:
    """The digits of a SHA-256 at the end of a file's name; digits alone are a date."""
    found = _HASH.search(urlsplit(url).path)
    return found[1] if found and not found[1].isdigit() else None


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open('rb') as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
