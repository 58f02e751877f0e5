"""What takes the place of ``weights_only`` with an older PyTorch reads as much and no more."""

import copyreg
import io
import os
import pickle
import pickletools
from collections import OrderedDict

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from torch import nn

from diffkd_mm.checkpoints import reading, restricted_pickle
from diffkd_mm.checkpoints.reading import read_checkpoint_file
from diffkd_mm.errors import DistillationError


@pytest.fixture(autouse=True)
def older_pytorch(monkeypatch):
    monkeypatch.setattr(reading, 'TORCH', (2, 5, 1))


def history():
    buffer = HistoryBuffer()
    for value in (0.5, 1.5):
        buffer.update(value)
    return buffer


@pytest.mark.parametrize('legacy', [False, True])
def test_all_that_a_training_writes_is_read(tmp_path, legacy):
    weights = OrderedDict(
        half=torch.ones(2, dtype=torch.half),
        brain=torch.ones(2, dtype=torch.bfloat16),
        parameter=nn.Parameter(torch.ones(2)),
        flags=torch.tensor([True, False]),
        bytes=torch.arange(3, dtype=torch.uint8),
    )
    weights._metadata = {'': dict(version=1)}
    written = dict(
        state_dict=weights,
        log=history(),
        scalar=np.float64(2.5),
        array=np.arange(4, dtype=np.float32),
        kinds=[torch.bfloat16, torch.bool, torch.uint8],
        device=torch.device('cpu'),
        names={'a', 'b'},
        sizes=[torch.Size([2, 3]), 2**70, None, 'text', b'bytes', 1 + 2j],
    )
    torch.save(written, tmp_path / 'x.pth', _use_new_zipfile_serialization=not legacy)
    read = read_checkpoint_file(str(tmp_path / 'x.pth'))
    assert read['state_dict'].keys() == weights.keys()
    for name, value in weights.items():
        assert read['state_dict'][name].dtype == value.dtype
        assert torch.equal(read['state_dict'][name], value)
    assert read['state_dict']._metadata == weights._metadata
    assert read['log'].mean() == 1.0 and read['log'].statistics('max') == 1.5
    assert (read['array'] == written['array']).all() and read['array'].dtype == np.float32
    for name in ('scalar', 'kinds', 'device', 'names', 'sizes'):
        assert read[name] == written[name]


@pytest.mark.parametrize('torch_version', [(2, 5), (9, 0)], ids=['older', 'installed'])
@pytest.mark.parametrize('package', ['numpy.core', 'numpy._core'])
def test_logs_of_either_numpy_are_read(tmp_path, monkeypatch, torch_version, package):
    if torch_version > (2, 6) and not hasattr(torch.serialization, 'safe_globals'):
        pytest.skip('the installed PyTorch has no list of its own')
    monkeypatch.setattr(reading, 'TORCH', torch_version)
    own = np.array(0).__reduce__()[0].__module__.removesuffix('.multiarray')
    buffer = io.BytesIO()
    torch.save(dict(log=history()), buffer, _use_new_zipfile_serialization=False)
    content = buffer.getvalue()
    assert f'c{own}.multiarray\n'.encode() in content
    content = content.replace(f'c{own}.multiarray\n'.encode(), f'c{package}.multiarray\n'.encode())
    (tmp_path / 'x.pth').write_bytes(content)
    assert read_checkpoint_file(str(tmp_path / 'x.pth'))['log'].mean() == 1.0


class Step:
    """Pickles as a call, or as an object with a state."""

    def __init__(self, *reduced):
        self.reduced = reduced

    def __reduce__(self):
        return self.reduced


REFUSED = {
    'a name': (lambda: Step(os.mkdir, ('ran',)), 'posix.mkdir'),
    'a result that is called': (
        lambda: Step(HistoryBuffer.min, (history(),)),
        'more than weights',
    ),
    'another attribute': (lambda: Step(getattr, (torch.Tensor, 'numpy')), 'getattr'),
}


@pytest.mark.parametrize('make, named', REFUSED.values(), ids=REFUSED)
def test_what_could_do_more_is_refused(tmp_path, make, named):
    torch.save(dict(state_dict={}, bomb=make()), tmp_path / 'x.pth')
    with pytest.raises(DistillationError, match=f'(?s){named}') as refusal:
        read_checkpoint_file(str(tmp_path / 'x.pth'))
    assert 'trust_checkpoint' in str(refusal.value)


def assembled(*steps: bytes) -> bytes:
    """A pickle of protocol 2 from its steps."""
    return b''.join([b'\x80\x02', *steps, b'.'])


CLASS = f'c{HistoryBuffer.__module__}\nHistoryBuffer\n'.encode()
HAND_MADE = {
    'state of a class': assembled(CLASS, b'N}U\x03minK\x01s\x86b'),
    'state of a function': assembled(b'c_codecs\nencode\n', b'N}U\x07__doc__K\x01s\x86b'),
    'instance by keywords': assembled(CLASS, b')}\x92'),
    'instance of protocol 0': assembled(b'(i', CLASS[1:]),
    'instance of protocol 1': assembled(b'(', CLASS, b'o'),
    'instance of a function': assembled(b'c_codecs\nencode\n', b')\x81'),
    'name on the stack': assembled(b'\x8c\x05posix\x8c\x06system\x93'),
    'extension': assembled(b'\x82\x01'),
}


@pytest.mark.parametrize('content', HAND_MADE.values(), ids=HAND_MADE)
def test_steps_that_no_checkpoint_takes_are_refused(content):
    pickletools.dis(content, io.StringIO())  # they are well formed
    before = dict(vars(HistoryBuffer))
    copyreg.add_extension('os', 'mkdir', 1)
    try:
        with pytest.raises((pickle.UnpicklingError, TypeError), match='not allowed|not a type'):
            restricted_pickle.loads(content)
    finally:
        copyreg.remove_extension('os', 'mkdir', 1)
    assert dict(vars(HistoryBuffer)) == before


def test_an_instance_of_a_known_class_is_made():
    """The refusals above are not for want of a well-formed pickle."""
    assert type(restricted_pickle.loads(assembled(CLASS, b')\x81'))) is HistoryBuffer
