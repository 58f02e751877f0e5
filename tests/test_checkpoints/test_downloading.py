"""Downloads from a server of this machine that does not always behave."""

import hashlib
import os
import threading
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from unittest.mock import MagicMock

import patience
import pytest
import torch

from diffkd_mm.checkpoints import downloading
from diffkd_mm.checkpoints.downloading import hash_in_name
from diffkd_mm.checkpoints.file_kinds import what_else
from diffkd_mm.checkpoints.reading import read_checkpoint_file
from diffkd_mm.errors import DistillationError

PAGE = b'<!DOCTYPE html><html>Please log in.</html>'


class Server(ThreadingHTTPServer):
    """Answers with a list of callables, one per request, and counts the requests."""

    daemon_threads = True

    def __init__(self, content: bytes) -> None:
        super().__init__(('127.0.0.1', 0), Handler)
        self.content = content
        self.answers: list = []
        self.requests = 0
        self.done = threading.Event()

    def url(self, name: str = 'teacher.pth') -> str:
        return f'http://127.0.0.1:{self.server_port}/{name}'


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.server.requests += 1
        answer = self.server.answers.pop(0) if self.server.answers else whole
        answer(self)

    def log_message(self, *args) -> None:
        pass

    def give(self, content: bytes, length: int | None = None, status: int = 200) -> None:
        self.send_response(status)
        if length is not None:
            self.send_header('Content-Length', str(length))
        self.end_headers()
        self.wfile.write(content)


def whole(handler: Handler) -> None:
    handler.give(handler.server.content, len(handler.server.content))


def truncated(handler: Handler) -> None:
    handler.give(handler.server.content[:-20], len(handler.server.content))


def truncated_without_a_length(handler: Handler) -> None:
    handler.give(handler.server.content[:-20])


def broken_off(handler: Handler) -> None:
    handler.wfile.write(b'')


def page(handler: Handler) -> None:
    handler.give(PAGE, len(PAGE))


def overloaded(handler: Handler) -> None:
    handler.give(b'', 0, status=503)


def missing(handler: Handler) -> None:
    handler.give(PAGE, len(PAGE), status=404)


def silent(handler: Handler) -> None:
    handler.server.done.wait(patience.SECONDS)


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path / 'hub'))
    monkeypatch.setattr(downloading, 'PAUSE', 0.01)
    torch.save(dict(x=torch.arange(5)), tmp_path / 'teacher.pth')
    with Server((tmp_path / 'teacher.pth').read_bytes()) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield server
        server.done.set()
        server.shutdown()


@pytest.fixture
def answers(server, monkeypatch):
    """Sets what the server answers; silence is not waited for, everything else is."""
    urlopen = urllib.request.urlopen

    def set_answers(*given) -> None:
        server.answers = list(given)
        timeouts = [0.3 if answer is silent else patience.SECONDS for answer in given]

        def urlopen_in_time(request, timeout: float):
            return urlopen(request, timeout=timeouts.pop(0) if timeouts else timeout)

        monkeypatch.setattr(urllib.request, 'urlopen', urlopen_in_time)

    return set_answers


@pytest.fixture
def cache(tmp_path) -> Path:
    return tmp_path / 'hub/checkpoints'


def test_once(server, cache):
    for _ in range(2):
        assert read_checkpoint_file(server.url('teacher.pth?download=true'))['x'].sum() == 10
    assert server.requests == 1
    (path,) = cache.iterdir()
    assert path.name.endswith('-teacher.pth')


def test_a_long_one_says_how_far_it_is(server, tmp_path, monkeypatch):
    lines = []
    monkeypatch.setattr(downloading, 'print_log', lambda line, **kwargs: lines.append(line))
    monkeypatch.setattr('diffkd_mm.progress.EVERY', 0)
    torch.save(dict(x=torch.zeros(750_000)), tmp_path / 'large.pth')
    server.content = (tmp_path / 'large.pth').read_bytes()
    downloading.download(server.url())
    assert lines[1].startswith('1 of 3 MB, eta 0:00')


@pytest.mark.parametrize(
    'answer', [truncated, truncated_without_a_length, broken_off, page, overloaded, silent]
)
def test_what_failed_is_tried_again(server, answers, cache, answer):
    answers(answer, answer)
    assert read_checkpoint_file(server.url())['x'].sum() == 10
    assert server.requests == 3
    assert len(list(cache.iterdir())) == 1


@pytest.mark.parametrize(
    ('answer', 'sentence', 'requests'),
    [
        (truncated, r'bytes came|broke off', 3),
        (truncated_without_a_length, 'what comes is cut off', 3),
        (broken_off, 'closed connection', 3),
        (page, 'what comes is a web page', 3),
        (overloaded, 'the server answers 503', 3),
        (silent, 'timed out', 3),
        (missing, 'the server answers 404', 1),
    ],
)
def test_nothing_is_kept_of_what_never_works(server, answers, cache, answer, sentence, requests):
    answers(answer, answer, answer)
    with pytest.raises(DistillationError, match=f'cannot download .*{sentence}.*by other means'):
        read_checkpoint_file(server.url())
    patience.wait_until(lambda: server.requests >= requests)
    assert server.requests == requests
    assert list(cache.iterdir()) == []


def test_no_server(server):
    url = server.url()
    server.shutdown()
    server.server_close()
    with pytest.raises(DistillationError, match='cannot download .*refused'):
        read_checkpoint_file(url)


def test_the_hash_of_the_name(server, cache):
    digits = hashlib.sha256(server.content).hexdigest()[:8]
    read_checkpoint_file(server.url(f'r34-{digits}.pth'))
    with pytest.raises(DistillationError, match=f'SHA-256 begins with {digits} and not.*0a1b2c3d'):
        read_checkpoint_file(server.url('r34-0a1b2c3d.pth'))
    assert len(list(cache.iterdir())) == 1


@pytest.mark.parametrize(
    ('name', 'digits'),
    [
        ('resnet34-b627a593.pth', 'b627a593'),
        ('retinanet_r50_fpn_1x_coco_20200130-c2398f9e.pth', 'c2398f9e'),
        ('model-20210831.pth', None),
        ('model-v2.pth', None),
        ('0a1b2c3d.pth', None),
    ],
)
def test_where_a_name_has_a_hash(name, digits):
    assert hash_in_name(f'https://example.com/models/{name}?raw=true') == digits


@pytest.mark.parametrize('content', [b'', PAGE, b'PK\x03\x04' + bytes(100)])
def test_what_an_earlier_download_left_is_replaced(server, cache, content):
    read_checkpoint_file(server.url())
    (path,) = cache.iterdir()
    path.write_bytes(content)
    assert read_checkpoint_file(server.url())['x'].sum() == 10
    assert server.requests == 2


def test_nodes_that_share_the_cache_and_the_number_of_their_process(server, cache, monkeypatch):
    """Threads have one as well; each waits until the other has its bytes."""
    both = threading.Barrier(2)

    def what_else_of_both(path: Path) -> str | None:
        both.wait(patience.SECONDS)
        return what_else(path)

    monkeypatch.setattr(downloading, 'what_else', what_else_of_both)
    with ThreadPoolExecutor(2) as nodes:
        paths = list(nodes.map(downloading.download, [server.url()] * 2))
    assert server.requests == 2 and list(cache.iterdir()) == paths[:1] == paths[1:]


@pytest.mark.parametrize('links', [True, False])
def test_a_file_of_torch_hub_is_used(server, cache, monkeypatch, links):
    if not links:
        monkeypatch.setattr(os, 'link', MagicMock(side_effect=PermissionError))
    digits = hashlib.sha256(server.content).hexdigest()[:8]
    cache.mkdir(parents=True)
    (cache / f'r34-{digits}.pth').write_bytes(server.content)
    (cache / 'r18-0a1b2c3d.pth').write_bytes(server.content)
    assert read_checkpoint_file(server.url(f'r34-{digits}.pth'))['x'].sum() == 10
    assert server.requests == 0
    with pytest.raises(DistillationError, match='SHA-256'):
        read_checkpoint_file(server.url('r18-0a1b2c3d.pth'))
