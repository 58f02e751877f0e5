"""A disk without room costs no checkpoint."""

import resource
import subprocess

import pytest
import toy

from diffkd_mm.checkpoints.storage import AtomicBackend, is_whole, latest_checkpoint
from diffkd_mm.errors import DistillationError


def one_kept(work_dir, epochs: int = 3):
    cfg = toy.config(work_dir, epochs)
    cfg.default_hooks.checkpoint.max_keep_ckpts = 1
    cfg.resume = True
    return cfg


def fails_with_one_sentence(cfg) -> None:
    with pytest.raises(DistillationError, match='epoch_2.pth.*could not be written: .*make room'):
        toy.train(cfg)


def under_a_limit(cfg) -> None:
    """As a quota would: a write fails in the middle of the file."""
    put = AtomicBackend.put

    def limited(*args) -> None:
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
        try:
            put(*args)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    AtomicBackend.put = limited
    fails_with_one_sentence(cfg)


def test_a_file_that_cannot_be_written(tmp_path):
    toy.train(one_kept(tmp_path, epochs=1))
    assert toy.forked(under_a_limit, one_kept(tmp_path)) == 0
    assert latest_checkpoint(tmp_path).endswith('epoch_1.pth')
    assert [x.name for x in tmp_path.glob('*.pth*')] == ['epoch_1.pth']
    toy.train(one_kept(tmp_path))
    assert latest_checkpoint(tmp_path).endswith('epoch_3.pth')


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 256 KiB."""
    disk = tmp_path / 'disk'
    disk.mkdir()
    command = ['mount', '-t', 'tmpfs', '-o', 'size=256k', 'tmpfs', str(disk)]
    try:
        mounted = subprocess.run(command, capture_output=True, text=True)
    except OSError as error:
        pytest.skip(f'no small file system can be mounted here: {error}')
    if mounted.returncode:
        pytest.skip(f'no small file system can be mounted here: {mounted.stderr.strip()}')
    yield disk
    subprocess.run(['umount', '-l', str(disk)], check=True)


def test_a_full_disk(small_disk):
    cfg = one_kept(small_disk)
    toy.train(one_kept(small_disk, epochs=1))
    (filler := small_disk / 'filler').write_bytes(b'')
    with pytest.raises(OSError), filler.open('wb', buffering=0) as file:
        while True:
            file.write(bytes(1024))
    with pytest.raises(DistillationError, match='No space left on device'):
        AtomicBackend().put(bytes(5000), small_disk / 'epoch_2.pth')
    assert not (small_disk / 'epoch_2.pth').exists() and is_whole(small_disk / 'epoch_1.pth')
    filler.unlink()
    toy.train(cfg)
    assert latest_checkpoint(small_disk).endswith('epoch_3.pth')
