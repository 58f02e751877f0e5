"""Packaging of diffkd_mm; see README.md for how to install it."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent


def version() -> str:
    """Read ``__version__`` without importing the package, which would need torch."""
    source = (ROOT / 'diffkd_mm' / '__init__.py').read_text(encoding='utf-8')
    return re.search(r"^__version__ = '([^']+)'", source, re.MULTILINE)[1]


def requirements(name: str) -> list[str]:
    """Return the packages that ``requirements/<name>.txt`` lists."""
    lines = (ROOT / 'requirements' / f'{name}.txt').read_text(encoding='utf-8').splitlines()
    return [line for line in (line.split('#')[0].strip() for line in lines) if line]


setup(
    name='diffkd_mm',
    version=version(),
    description='Knowledge distillation with DiffKD for the OpenMMLab family',
    author='The diffkd_mm authors',
    license='Apache-2.0',
    packages=find_packages(include=['diffkd_mm', 'diffkd_mm.*']),
    python_requires='>=3.10',
    # The OpenMMLab stack is an extra: users bring their own, and pip must not put the fork,
    # which installs under the same import names, on top of it.
    install_requires=requirements('runtime'),
    extras_require={'onedl': requirements('onedl'), 'tests': requirements('tests')},
)
