"""Configuration of the documentation's site: ``make docs`` builds it.

The source directory is the repository's root, so that README.md and the pages beside the configs
are pages of the site where they stand, with the links that they have.
"""

import sys
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent
sys.path[:0] = [str(ROOT), str(HERE)]

from zoo_tables import zoo_tables  # noqa: E402

from diffkd_mm import __version__  # noqa: E402

project = 'diffkd_mm'
author = 'The diffkd_mm authors'
project_copyright = author
version = release = __version__

extensions = [
    'myst_parser',
    'sphinx.ext.autodoc',
    'sphinx.ext.napoleon',
    'sphinx.ext.viewcode',
]
root_doc = 'docs/index'
include_patterns = ['README.md', 'docs/**', 'configs/**']
exclude_patterns = ['docs/_build', 'configs/**/assets', '**/__pycache__']
source_suffix = {'.md': 'markdown'}

# GitHub's anchors, to the depth that pages link to.
myst_heading_anchors = 4
myst_enable_extensions = ['attrs_block']  # a class for the tables of the zoo

html_theme = 'furo'
html_title = 'diffkd_mm'
html_static_path = ['_static']
html_css_files = ['site.css']
html_extra_path = ['_site']  # the front page of the built folder, which leads to docs/index.html
html_copy_source = False

autodoc_member_order = 'bysource'
autodoc_typehints = 'none'  # the docstrings have them
napoleon_use_rtype = False


def fill_in(app, docname: str, source: list[str]) -> None:
    """Writes the metafiles' tables into one page, and pages that the index omits into the index."""
    if docname == 'docs/model_zoo':
        source[0] = source[0].replace('<!-- tables -->', zoo_tables(ROOT))
    if docname == 'docs/index':
        pages = sorted(path.stem for path in HERE.glob('*.md') if path.stem != 'index')
        others = [page for page in pages if f'\n{page}\n' not in source[0]]
        source[0] = source[0].replace('<!-- others -->', '\n'.join(others))


def setup(app) -> None:
    """Registers what Sphinx calls."""
    app.connect('source-read', fill_in)
