"""What `--resume` finds in a work dir, whatever became of it."""

import os
import shutil

import pytest
import torch
import toy

from diffkd_mm.checkpoints import storage
from diffkd_mm.checkpoints.storage import has_checkpoints, latest_checkpoint
from diffkd_mm.errors import DistillationError


@pytest.fixture
def work_dir(tmp_path):
    """Three checkpoints, a minute apart, and the file that names the last."""
    folder = tmp_path / 'work'
    folder.mkdir()
    for epoch in (1, 2, 3):
        write(folder / f'epoch_{epoch}.pth', minute=epoch)
    write(folder / 'best_mean_epoch_3.pth', minute=4)
    (folder / 'last_checkpoint').write_text(str(folder / 'epoch_3.pth'))
    return folder


def write(path, minute: int) -> None:
    torch.save(dict(state_dict=dict(x=torch.ones(100))), path)
    os.utime(path, (60 * minute, 60 * minute))


def name(found: str | None) -> str:
    return found.rpartition('/')[2]


@pytest.fixture
def said(monkeypatch):
    lines = []
    monkeypatch.setattr(storage, 'print_log', lambda line, **options: lines.append(line))
    return lambda: ''.join(lines)


def test_follows_the_note_without_a_word(work_dir, said):
    assert name(latest_checkpoint(work_dir)) == 'epoch_3.pth'
    assert said() == ''


@pytest.mark.parametrize(
    ('content', 'sentence'),
    [
        (None, "last_checkpoint' is missing: resuming from"),
        ('', "last_checkpoint' is empty: resuming from"),
        ('\n', "last_checkpoint' is empty: resuming from"),
        ('{}/epoch_9.pth', "epoch_9.pth', which is not there: resuming from"),
        ('{}/epoch_2.pth', "last_checkpoint' names epoch_2.pth, which is older: resuming from"),
        ('/elsewhere/before/epoch_3.pth', "epoch_3.pth', which is not there: resuming from"),
        ('\x00\xff', 'which is not there: resuming from'),
    ],
)
def test_a_note_that_is_no_help(work_dir, said, content, sentence):
    note = work_dir / 'last_checkpoint'
    note.unlink() if content is None else note.write_text(content.format(work_dir))
    assert name(latest_checkpoint(work_dir)) == 'epoch_3.pth'
    assert sentence in said()


@pytest.mark.parametrize('damage', ['truncated', 'empty', 'flipped', 'html'])
def test_a_broken_checkpoint_is_passed_over(work_dir, said, damage):
    path = work_dir / 'epoch_3.pth'
    content = bytearray(path.read_bytes())
    content[content.index(b'\x00\x00\x80\x3f') + 2] ^= 1  # a weight
    broken = dict(truncated=content[:-50], empty=b'', flipped=content, html=b'<html>' * 500)
    path.write_bytes(broken[damage])
    assert name(latest_checkpoint(work_dir)) == 'epoch_2.pth'
    assert 'epoch_3.pth cannot be read: resuming from' in said()


def test_all_broken(work_dir):
    for path in work_dir.glob('epoch_*.pth'):
        path.write_bytes(b'')
    with pytest.raises(DistillationError, match='epoch_3.pth, epoch_2.pth, epoch_1.pth.*anew'):
        latest_checkpoint(work_dir)


def test_nothing_to_resume(tmp_path):
    assert latest_checkpoint(tmp_path) is None
    assert not has_checkpoints(tmp_path) and not has_checkpoints(tmp_path / 'none')


def test_an_earlier_longer_training_is_not_continued(work_dir, said):
    """The work dir was used before; the checkpoint with the higher number is the older one."""
    write(work_dir / 'epoch_1.pth', minute=10)
    (work_dir / 'last_checkpoint').write_text(str(work_dir / 'epoch_1.pth'))
    assert name(latest_checkpoint(work_dir)) == 'epoch_1.pth'
    (work_dir / 'last_checkpoint').unlink()
    assert name(latest_checkpoint(work_dir)) == 'epoch_1.pth'


def test_a_copy_whose_times_are_lost(work_dir, tmp_path):
    copy = tmp_path / 'copy'
    shutil.copytree(work_dir, copy)
    shutil.rmtree(work_dir)
    write(copy / 'epoch_2.pth', minute=20)
    assert latest_checkpoint(copy) == str(copy / 'epoch_3.pth')


def test_a_copy_does_not_go_on_from_the_original(work_dir, tmp_path, said):
    copy = tmp_path / 'copy'
    shutil.copytree(work_dir, copy)
    write(work_dir / 'epoch_4.pth', minute=5)
    assert latest_checkpoint(copy) == str(copy / 'epoch_3.pth')
    assert 'of which there is a copy here: resuming from' in said()
    (tmp_path / 'link').symlink_to(work_dir)
    (work_dir / 'last_checkpoint').write_text(str(work_dir / 'epoch_4.pth'))
    assert name(latest_checkpoint(tmp_path / 'link')) == 'epoch_4.pth'
    assert said().count('resuming from') == 1


def test_the_hook_resumes_a_moved_work_dir(tmp_path, said):
    """Also where another tool than ours starts the training."""
    whole = toy.train(toy.config(tmp_path / 'whole'))
    toy.train(toy.config(tmp_path / 'before', epochs=2))
    (tmp_path / 'before').rename(tmp_path / 'moved')
    cfg = toy.config(tmp_path / 'moved')
    cfg.resume = True
    resumed = toy.train(cfg)
    assert toy.differences(toy.training_state(whole), toy.training_state(resumed)) == []
    assert 'which is not there: resuming from' in said()
    # The second time round, there is nothing left to do; and an empty folder begins anew.
    assert toy.differences(toy.train(cfg)['state_dict'], whole['state_dict']) == []
    cfg.work_dir = str(tmp_path / 'empty')
    anew = toy.train(cfg)
    assert toy.differences(toy.training_state(whole), toy.training_state(anew)) == []


def test_checkpoints_in_a_folder_of_their_own(tmp_path):
    whole = toy.train(toy.config(tmp_path / 'whole'))
    for epochs in (2, 4):
        cfg = toy.config(tmp_path / 'run', epochs)
        cfg.default_hooks.checkpoint.out_dir = str(tmp_path / 'big_disk')
        cfg.resume = True
        (tmp_path / 'run/last_checkpoint').unlink(missing_ok=True)
        resumed = toy.train(cfg)
    assert (tmp_path / 'big_disk/run/epoch_4.pth').exists()
    (tmp_path / 'run/last_checkpoint').unlink()
    assert has_checkpoints(tmp_path / 'run', str(tmp_path / 'big_disk'))
    assert not has_checkpoints(tmp_path / 'run')
    assert toy.differences(toy.training_state(whole), toy.training_state(resumed)) == []
