"""The documentation: its code runs, its links lead somewhere, the messages it quotes are real."""

import ast
import re
import runpy
import shlex
import sys
from inspect import signature
from pathlib import Path

import pytest
import tiny
import torch
from mmengine.config import Config

from diffkd_mm.distillers import FrozenTeacher, PointOptions
from diffkd_mm.distillers.balance import LossBalance
from diffkd_mm.distillers.schedule import Schedule

ROOT = Path(__file__).parents[2]
DOCS = ROOT / 'docs'
PAGES = [*DOCS.rglob('*.md'), ROOT / 'README.md', *(ROOT / 'configs').rglob('README.md')]
PAGES = [page for page in PAGES if '_build' not in page.parts]
# Few and small pictures, and few steps, for commands that train or test.
SMALL = """
train_cfg.max_iters=2 train_cfg.val_interval=2 default_hooks.logger.interval=1
default_hooks.checkpoint.interval=2 train_dataloader.batch_size=2 train_dataloader.num_workers=0
train_dataloader.persistent_workers=False val_dataloader.num_workers=0
val_dataloader.persistent_workers=False train_dataloader.dataset.num_images=8
val_dataloader.dataset.num_images=2 test_dataloader.num_workers=0
test_dataloader.persistent_workers=False test_dataloader.dataset.num_images=2
""".split()
ADDED = {
    'train.py': ['--cfg-options', *SMALL],
    'test.py': ['--cfg-options', *SMALL],
    'distill.py': ['--random-weights', '--shape', '64', '64'],
}


def blocks(page, language):
    """The code blocks of a page in a language."""
    text = (DOCS / f'{page}.md').read_text()
    return re.findall(rf'^ *```{language}\n(.*?)^ *```', text, re.MULTILINE | re.DOTALL)


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """An empty working folder that has the tools and configs, as a fresh clone has."""
    for name in ('tools', 'configs'):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(line, monkeypatch):
    """Runs a line of a shell block in this process; of `make`, looks for the target alone."""
    line = re.sub(r'\$\(cat (\S+)\)', lambda found: Path(found[1]).read_text(), line)
    words = shlex.split(line)
    if words[0] == 'make':
        assert f'\n{words[1]}:' in (ROOT / 'Makefile').read_text()
    elif words[0] != '.':
        assert words[0] == 'python', line
        tool = words[1]
        monkeypatch.setattr(sys, 'argv', [*words[1:], *ADDED.get(Path(tool).name, [])])
        with monkeypatch.context() as patch:
            patch.syspath_prepend(str((ROOT / tool).parent))
            runpy.run_path(tool, run_name='__main__')


def test_start_runs(clone, monkeypatch, capsys):
    for block in blocks('start', 'shell'):
        for line in block.replace('\\\n', '').splitlines():
            run(line, monkeypatch)
    (block,) = blocks('start', 'python')
    exec(block, {})
    assert capsys.readouterr().out.strip().endswith(']')


def test_own_pair_runs(clone, monkeypatch, capsys):
    propose, train, list_taps = (
        block.replace('\\\n', '').strip() for block in blocks('own_pair', 'shell')
    )
    run(propose, monkeypatch)
    printed = ' '.join(capsys.readouterr().out.split())
    assert 'fpn.loss_kd' in printed
    (quoted, *_) = blocks('own_pair', 'text')
    for line in re.split(r'\n(?=\w+: )', quoted.strip()):
        assert ' '.join(line.removesuffix('…').split()) in printed
    run(list_taps, monkeypatch)
    assert re.search(r'\* │ neck +│ FPN', capsys.readouterr().out)
    assert train == 'python tools/train.py pair.py'

    # What stands there by hand is what the tool writes, up to the order and the second point.
    by_hand, logits = blocks('own_pair', 'python')
    Path('by_hand.py').write_text(by_hand)
    written, stated = (Config.fromfile(name).model for name in ('pair.py', 'by_hand.py'))
    assert written.points.fpn == stated.points.fpn
    assert written.teacher == stated.teacher and written.student == stated.student
    options = {}
    exec(logits, options)
    PointOptions.from_config('logits', options['points']['logits'])


def test_what_is_added_in_extending_works():
    loss, connector = blocks('extending', 'python')
    names = {}
    exec(loss, names)
    exec(connector, names)
    point = dict(
        student='neck',
        teacher='neck',
        connector=dict(type='PooledConnector'),
        loss=dict(type='CharbonnierLoss', epsilon=0.1, loss_weight=2.0),
    )
    student, teacher = tiny.retinanet(), tiny.retinanet(channels=24)
    model = tiny.build_distiller(student, teacher, dict(pooled=point))
    log = tiny.train_step(model, tiny.batch())
    assert log['pooled.loss_kd'] > 0
    x = torch.zeros(2, 3)
    assert names['CharbonnierLoss'](0.5, 2.0)(x, x) == pytest.approx(1.0)


def test_the_new_config_of_from_mmrazor(tmp_path):
    old, new = blocks('from_mmrazor', 'python')
    (tmp_path / 'new.py').write_text(new)
    for name, options in Config.fromfile(tmp_path / 'new.py').model.points.items():
        PointOptions.from_config(name, options)
    ast.parse(old)


@pytest.mark.parametrize('target', [PointOptions, FrozenTeacher, Schedule, LossBalance])
def test_every_option_of_points_and_teachers_is_described(target):
    page = (DOCS / 'points.md').read_text()
    named = {x for code in re.findall('`([^`]+)`', page) for x in re.findall(r'\w+', code)}
    assert set(signature(target).parameters) - {'name'} <= named


def test_method_says_where_things_are():
    page = (DOCS / 'method.md').read_text()
    package = ROOT / 'diffkd_mm'
    for path in re.findall(r'`((?:\w+/)+\w+\.py)`', page):
        assert (package / path).is_file(), path
    methods = {
        (node.name, part.name)
        for file in package.rglob('*.py')
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.ClassDef)
        for part in node.body
        if isinstance(part, ast.FunctionDef)
    }
    assert set(re.findall(r'`([A-Z]\w+)\.(\w+)`', page)) <= methods


# --- links ---------------------------------------------------------------------------------------


def anchors(page):
    """The anchors that GitHub and the site give a page's headings."""
    text = re.sub(r'^```.*?^```', '', page.read_text(), flags=re.MULTILINE | re.DOTALL)
    heads = re.findall(r'^#+ (.+)$', text, re.MULTILINE)
    return {re.sub(r'[^\w\- ]', '', head.lower()).replace(' ', '-') for head in heads}


@pytest.mark.parametrize('page', PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    text = re.sub(r'^ *```.*?^ *```', '', page.read_text(), flags=re.MULTILINE | re.DOTALL)
    for link in re.findall(r'\]\(([^)\s]+)\)', text):
        if re.match(r'\w+:', link):
            continue
        path, _, anchor = link.partition('#')
        target = (page.parent / path).resolve() if path else page
        assert target.is_file(), f'{page}: {link}'
        assert not anchor or anchor in anchors(target), f'{page}: {link}'


# --- messages ------------------------------------------------------------------------------------


def messages():
    """All texts of the package, with … for what is put in."""
    for file in (ROOT / 'diffkd_mm').rglob('*.py'):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value
            elif isinstance(node, ast.JoinedStr):
                parts = (x.value if isinstance(x, ast.Constant) else '…' for x in node.values)
                yield ''.join(parts)


def pieces(message):
    """Its sentences between the places where something is put in, without single words."""
    found = (piece.strip(' .:;,()') for piece in re.split(r'…|[.:] ', message))
    return [' '.join(piece.split()) for piece in found if len(piece.split()) > 1]


def test_quoted_messages_are_real():
    page = (DOCS / 'troubleshooting.md').read_text()
    quoted = [' '.join(block.split()) for block in blocks('troubleshooting', 'text')]
    table = page.partition('## Messages before the first step')[2]
    quoted += re.findall(r'^\| `([^`]+)` \|', table, re.MULTILINE)
    assert len(quoted) > 20
    known = [' '.join(text.split()) for text in messages()]
    for message in quoted:
        for piece in pieces(message):
            assert any(piece in text for text in known), f'{message!r}: {piece!r}'


# --- the site's own code -------------------------------------------------------------------------


@pytest.fixture
def site(monkeypatch):
    monkeypatch.syspath_prepend(str(DOCS))


def test_zoo_has_every_model(site):
    from zoo_tables import zoo_tables

    from diffkd_mm.experiments.paper_tables import indexed_models

    text = zoo_tables(ROOT)
    for name, model in indexed_models(ROOT).items():
        assert text.count(f'[{name}](../{model["Config"]})') == 1
    assert '| deeplabv3_r18 ← deeplabv3_r101 | 40000 iterations | 77.78 / 76.24 | – |' in text


def test_dead_links_of_the_site_are_found(site, tmp_path):
    from check_links import dead_links

    (tmp_path / 'a.html').write_text(
        '<a href="b.html#there">1</a><a href="b.html#gone">2</a><img src="c.png">'
        '<a href="https://example.org">3</a><a href="#here">4</a><i id="here"></i>'
    )
    (tmp_path / 'b.html').write_text('<h1 id="there"></h1><a href="a.html">1</a>')
    assert list(dead_links(tmp_path)) == ['a.html: b.html#gone', 'a.html: c.png']


def test_the_study_s_contrasts_are_those_of_its_record(tmp_path):
    study = runpy.run_path(str(DOCS / 'study/contrasts.py'))
    differences = study['read_differences'](DOCS / 'study/runs.csv')
    assert study['table'](differences) in (DOCS / 'study.md').read_text()
    study['draw'](differences, tmp_path / 'contrasts.png')
    assert (tmp_path / 'contrasts.png').read_bytes().startswith(b'\x89PNG')
