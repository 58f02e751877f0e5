"""Files that are no checkpoints, or more than that, wherever a checkpoint is asked for."""

import argparse
import atexit
import bz2
import datetime
import functools
import gzip
import io
import json
import lzma
import os
import pathlib
import pickle
import shutil
import subprocess
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tiny
import torch
import toy
from mmengine.runner import CheckpointLoader
from safetensors.torch import save
from table import Row, run_tool
from torch import nn

from diffkd_mm.checkpoints.reading import model_weights, read_all_safely, read_checkpoint_file
from diffkd_mm.distillers import FrozenTeacher


def saved(content: object, **options) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, **options)
    return file.getvalue()


def zipped(**files: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, 'w') as archive:
        for name, content in files.items():
            archive.writestr(name.replace('__', '/'), content)
    return file.getvalue()


def tarred() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode='w') as archive:
        archive.addfile(tarfile.TarInfo('weights'))
    return file.getvalue()


def array(**arrays) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays) if arrays else np.save(file, np.zeros(3))
    return file.getvalue()


def scripted() -> bytes:
    file = io.BytesIO()
    torch.jit.save(torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2)), file)
    return file.getvalue()


class Call:
    """Pickled, a call of any function with any arguments."""

    def __init__(self, function: Callable, *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self):
        return self.call


WEIGHTS = {'a.weight': torch.ones(40, 50), 'a.bias': torch.ones(40)}
CHECKPOINT = saved(dict(state_dict=WEIGHTS))
SAFE = save(WEIGHTS)
NO_CHECKPOINT = 'is no checkpoint: it is '
CUT_OFF = NO_CHECKPOINT + 'cut off: its end is missing after'

# What lies under the name of a checkpoint, and what is said about it.
CONTENTS = {
    'empty': (b'', NO_CHECKPOINT + 'empty'),
    'html': (b'<!DOCTYPE html><html><body>404</body></html>', NO_CHECKPOINT + 'a web page'),
    'html_after_blanks': (b'\n\n  <html><head></head></html>', NO_CHECKPOINT + 'a web page'),
    'html_upper_case': (b'<HTML>Not found</HTML>', NO_CHECKPOINT + 'a web page'),
    'xml': (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', 'a web page'),
    'lfs_pointer': (
        b'version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n',
        NO_CHECKPOINT + 'a pointer of Git LFS, which "git lfs pull"',
    ),
    'json': (json.dumps(dict(error='not found')).encode(), NO_CHECKPOINT + 'a JSON file'),
    'json_list': (b'[1, 2, 3]', NO_CHECKPOINT + 'a JSON file'),
    'text': (b'see README\n', NO_CHECKPOINT + 'a text file'),
    'python': (b"model = dict(type='RetinaNet')\n", NO_CHECKPOINT + 'a text file'),
    'gzip': (gzip.compress(CHECKPOINT), NO_CHECKPOINT + 'compressed by gzip; unpack it first'),
    'bzip2': (bz2.compress(CHECKPOINT), NO_CHECKPOINT + 'compressed by bzip2; unpack it first'),
    'xz': (lzma.compress(CHECKPOINT), NO_CHECKPOINT + 'compressed by xz; unpack it first'),
    'zstd': (b'\x28\xb5\x2f\xfd' + bytes(50), NO_CHECKPOINT + 'compressed by zstd'),
    'seven_zip': (b'7z\xbc\xaf\x27\x1c' + bytes(50), NO_CHECKPOINT + 'compressed by 7-Zip'),
    'tar': (tarred(), NO_CHECKPOINT + 'a tar archive; unpack it first'),
    'zip': (zipped(weights__a=CHECKPOINT), NO_CHECKPOINT + r'a zip archive \(weights/a\)'),
    'empty_zip': (zipped(), NO_CHECKPOINT + 'of no known kind'),
    'npy': (array(), NO_CHECKPOINT + 'an array of NumPy'),
    'npz': (array(a=np.zeros(3)), NO_CHECKPOINT + 'an archive of arrays of NumPy'),
    'hdf5': (b'\x89HDF\r\n\x1a\n' + bytes(90), NO_CHECKPOINT + 'an HDF5 file'),
    'png': (b'\x89PNG\r\n\x1a\n' + bytes(90), NO_CHECKPOINT + 'a picture'),
    'jpg': (b'\xff\xd8\xff\xe0' + bytes(90), NO_CHECKPOINT + 'a picture'),
    'pdf': (b'%PDF-1.7\n', NO_CHECKPOINT + 'a PDF'),
    'program': (b'\x7fELF\x02\x01' + bytes(90), NO_CHECKPOINT + 'a program'),
    'torchscript': (scripted(), NO_CHECKPOINT + 'a TorchScript program; save the state dict'),
    'random_bytes': (
        np.random.RandomState(0).bytes(5000),
        NO_CHECKPOINT + r"of no known kind: it begins with b'",
    ),
    'zeros': (bytes(5000), NO_CHECKPOINT + 'of no known kind'),
    'plain_pickle': (pickle.dumps(dict(a=1)), NO_CHECKPOINT + 'a pickle that torch.save did not'),
    'detectron_pickle': (
        pickle.dumps(dict(model=dict(a=np.zeros(3))), protocol=2),
        NO_CHECKPOINT + 'a pickle that torch.save did not',
    ),
    'half': (CHECKPOINT[: len(CHECKPOINT) // 2], CUT_OFF),
    'all_but_a_byte': (CHECKPOINT[:-30], CUT_OFF),
    'ten_bytes': (CHECKPOINT[:10], CUT_OFF),
    'half_safetensors': (SAFE[: len(SAFE) // 2], 'cannot be read as a checkpoint; is it complete'),
    'beginning_of_safetensors': (SAFE[:40], 'is no checkpoint|is it complete'),
    'half_legacy': (
        saved(WEIGHTS, _use_new_zipfile_serialization=False)[:-900],
        'cannot be read as a checkpoint; is it complete',
    ),
    'pickle_inside_is_text': (zipped(archive__data__pkl=b'no'), 'is no checkpoint|cannot be read'),
}

# What would run code, or is at least more than weights, and the object that is named.
OBJECTS = {
    'os_system': (lambda ran: Call(os.system, f'touch {ran}'), 'posix.system'),
    'popen': (lambda ran: Call(subprocess.Popen, ['touch', ran]), r'\w+.Popen'),
    'eval': (lambda ran: Call(eval, f'open({ran!r}, "w")'), 'eval'),
    'exec': (lambda ran: Call(exec, f'open({ran!r}, "w")'), 'exec'),
    'open': (lambda ran: Call(open, ran, 'w'), 'open'),
    'import': (lambda ran: Call(__import__, 'antigravity'), '__import__'),
    'getattr': (lambda ran: Call(getattr, torch.Tensor, 'numpy'), 'getattr'),
    'partial': (lambda ran: functools.partial(os.system, f'touch {ran}'), 'functools.partial'),
    'remove': (lambda ran: Call(os.remove, ran), 'posix.remove'),
    'load': (lambda ran: Call(torch.load, ran), 'torch.serialization.load'),
    'whole_module': (lambda ran: nn.Linear(2, 2), 'torch.nn.modules.linear.Linear'),
    'arguments': (lambda ran: argparse.Namespace(lr=0.1), 'argparse.Namespace'),
    'path': (lambda ran: pathlib.PosixPath(ran), 'pathlib'),
    'time': (lambda ran: datetime.datetime(2023, 5, 25), 'datetime.datetime'),
    'config': (lambda ran: tiny.training(Path(ran), 'x'), 'mmengine.config'),
    'object_array': (lambda ran: np.array([Call(os.system, f'touch {ran}')]), 'posix.system|numpy'),
}

# What is read, but has no model's weights in it.
NO_MODELS = {
    'list': [1, 2, 3],
    'number': 5,
    'string': 'weights',
    'tensor': torch.ones(3),
    'empty_dict': {},
    'dict_of_strings': dict(a='b'),
    'empty_state_dict': dict(state_dict={}),
    'state_dict_of_numbers': dict(state_dict=dict(a=1.0)),
    'nested': dict(state_dict=dict(a=dict(b=torch.ones(1)))),
    'meta_alone': dict(meta=dict(epoch=3)),
    'none': None,
}


def write(folder: Path, content: bytes, name: str = 'model.pth') -> str:
    (folder / name).write_bytes(content)
    return str(folder / name)


def as_teacher(path: str) -> None:
    config = dict(model=tiny.classifier(), default_scope='mmpretrain')
    FrozenTeacher(config, path).build(torch.device('cpu'))


def as_student(path: str) -> None:
    """As ``load_from``, ``--resume``, ``init_cfg`` and test.py's CHECKPOINT are read."""
    read_all_safely()
    CheckpointLoader.load_checkpoint(path)


WAYS = dict(teacher=as_teacher, student=as_student)


def rows_of_contents() -> list[Row]:
    return [
        Row(f'{way}-{name}', lambda folder, c=content, r=read: r(write(folder, c)), sentence)
        for name, (content, sentence) in CONTENTS.items()
        for way, read in WAYS.items()
    ]


def rows_of_objects() -> list[Row]:
    def act(folder: Path, make: Callable, read: Callable, legacy: bool) -> None:
        content = dict(state_dict=WEIGHTS, extra=make(str(folder / 'ran')))
        read(write(folder, saved(content, _use_new_zipfile_serialization=not legacy)))

    return [
        Row(
            f'{way}-{name}{"-legacy" if legacy else ""}',
            functools.partial(act, make=make, read=read, legacy=legacy),
            f'holds .*({culprit}).*, which is no tensor, and reading it could run code.*--trust',
        )
        for name, (make, culprit) in OBJECTS.items()
        for way, read in WAYS.items()
        for legacy in (False, True)
    ]


def rows_of_others() -> list[Row]:
    def no_model(folder: Path, content: object) -> None:
        path = write(folder, saved(content))
        model_weights(read_checkpoint_file(path), path)

    rows = [
        Row(
            f'weights-{name}', functools.partial(no_model, content=x), 'not a checkpoint of a model'
        )
        for name, x in NO_MODELS.items()
    ]
    for way, read in WAYS.items():
        rows += [
            Row(f'{way}-missing', lambda f, r=read: r(str(f / 'no.pth')), 'there is no checkpoint'),
            Row(f'{way}-folder', lambda f, r=read: r(str(f)), 'there is no checkpoint'),
            Row(f'{way}-home', lambda f, r=read: r('~/no/such.pth'), 'there is no checkpoint'),
            Row(f'{way}-scheme', lambda f, r=read: r('ftp://a/b.pth'), 'there is no checkpoint'),
            Row(f'{way}-blank', lambda f, r=read: r(' '), 'there is no checkpoint'),
        ]
    return rows


@functools.cache
def config(distilled: bool) -> str:
    """The file of a config, with its data and its teacher, for all rows."""
    folder = Path(tempfile.mkdtemp(prefix='bad_files_'))
    atexit.register(shutil.rmtree, folder)
    if distilled:
        model = tiny.build(tiny.retinanet(channels=24))
        torch.save(model.state_dict(), folder / 'teacher.pth')
        cfg = tiny.training(folder, folder / 'teacher.pth', max_epochs=1)
    else:
        cfg = toy.config(folder, epochs=1)
        cfg.test_dataloader, cfg.test_evaluator = cfg.val_dataloader, cfg.val_evaluator
        cfg.test_cfg = dict(type='TestLoop')
    cfg.dump(folder / 'config.py')
    return str(folder / 'config.py')


# How each tool is given a checkpoint.
COMMANDS = {
    'train.py --resume': lambda path, work: ('--resume', path, '--work-dir', work),
    'train.py --cfg-options load_from': lambda path, work: (
        *('--work-dir', work, '--cfg-options', f'load_from={path}'),
    ),
    'train.py --cfg-options teacher': lambda path, work: (
        *('--work-dir', work, '--cfg-options', f'model.teacher.checkpoint={path}'),
    ),
    'test.py': lambda path, work: (path, '--work-dir', work),
    'analysis_tools/feature_gap.py': lambda path, work: (path, '--out', work),
    'analysis_tools/visualize_features.py': lambda path, work: (path, '--out', work / 'x.png'),
}


def rows_of_commands() -> list[Row]:
    def act(folder: Path, command: str, content: Callable[[str], bytes]) -> None:
        path = write(folder, content(str(folder / 'ran')))
        distilled = any(x in command for x in ('teacher', 'visualize', 'gap'))
        run_tool(command.split()[0], config(distilled), *COMMANDS[command](path, folder))

    def bomb(ran: str) -> bytes:
        return saved(dict(state_dict=WEIGHTS, extra=Call(os.system, f'touch {ran}')))

    contents = {
        'page': (lambda ran: CONTENTS['html'][0], 'DistillationError: .*model.pth.* a web page'),
        'bomb': (bomb, 'DistillationError: .*holds posix.system, which is no tensor.*--trust'),
        'half': (lambda ran: CONTENTS['half'][0], 'DistillationError: .*model.pth.* cut off'),
    }
    return [
        Row(f'{command}-{name}', functools.partial(act, command=command, content=x), sentence)
        for name, (x, sentence) in contents.items()
        for command in COMMANDS
        if name == 'bomb' or 'teacher' not in command  # whose files are in the rows above
    ]


ROWS = [*rows_of_contents(), *rows_of_objects(), *rows_of_others(), *rows_of_commands()]
