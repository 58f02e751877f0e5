"""The index that OpenMMLab's tools read, and the tables beside it."""

from pathlib import Path

import modelindex
import pytest
import yaml

ROOT = Path(__file__).parents[2]
METAFILES = yaml.safe_load((ROOT / 'model-index.yml').read_text())['Import']


@pytest.fixture(scope='module')
def index():
    return modelindex.load(str(ROOT / 'model-index.yml'))


def test_index_is_valid(index):
    index.build_models_with_collections()
    collections = {collection.name for collection in index.collections}
    assert {'DiffKD', 'FitNet', 'FGD', 'PKD', 'CWD'} <= collections
    for collection in index.collections:
        assert (ROOT / collection.readme).is_file()
    for model in index.models:
        assert model.in_collection in collections
        assert model.name == Path(model.config).stem


@pytest.mark.parametrize('folder', [str(Path(path).parent) for path in METAFILES])
def test_every_config_is_listed(index, folder):
    listed = {m.config for m in index.models if str(Path(m.config).parent) == folder}
    assert listed == {str(p.relative_to(ROOT)) for p in (ROOT / folder).glob('*.py')}


def test_table_has_the_papers_figures():
    """The README and the metafile are written by hand: they must not contradict each other."""
    rows = (ROOT / 'configs' / 'README.md').read_text().splitlines()
    models = yaml.safe_load((ROOT / 'configs' / 'metafile.yml').read_text())['Models']
    for model in models:
        figures = ' / '.join(str(x) for x in model['Paper Results'])
        (row,) = [row for row in rows if f'({Path(model["Config"]).name})' in row]
        assert figures in row
