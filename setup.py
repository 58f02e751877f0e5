"""Packaging of diffkd_mm; see README.md for how to install it."""

import re
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
# Where OpenMMLab's packages carry what lies beside them in their repositories. In a clone these are
# links; a wheel gets files.
MIM = Path('diffkd_mm') / '.mim'
SHIPPED = ('configs', 'tools', 'model-index.yml')
# What belongs to a clone alone.
NOT_SHIPPED = shutil.ignore_patterns('__pycache__', 'install.py', 'installer', 'gpu_check.py')


def version() -> str:
    """Read ``__version__`` without importing the package, which would need torch."""
    source = (ROOT / 'diffkd_mm' / '__init__.py').read_text(encoding='utf-8')
    return re.search(r"^__version__ = '([^']+)'", source, re.MULTILINE)[1]


def requirements(name: str) -> list[str]:
    """Return the packages that ``requirements/<name>.txt`` lists."""
    lines = (ROOT / 'requirements' / f'{name}.txt').read_text(encoding='utf-8').splitlines()
    return [line for line in (line.split('#')[0].strip() for line in lines) if line]


class BuildWithMim(build_py):
    """Builds the package with its configs, tools and metafiles."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            link_mim()
        else:
            copy_mim(Path(self.build_lib) / MIM)


def link_mim() -> None:
    """Makes the links of a clone where they are missing, as in an unpacked source distribution."""
    (ROOT / MIM).mkdir(exist_ok=True)
    for name in SHIPPED:
        if not (ROOT / MIM / name).exists():
            (ROOT / MIM / name).symlink_to(Path('../..', name))


def copy_mim(target: Path) -> None:
    """Copies configs, tools and metafiles; nothing is left of an earlier build."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for name in SHIPPED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, target / name, ignore=NOT_SHIPPED)
        else:
            shutil.copy2(ROOT / name, target / name)


setup(
    name='diffkd_mm',
    version=version(),
    description='Knowledge distillation with DiffKD for the OpenMMLab family',
    long_description=(ROOT / 'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    author='The diffkd_mm authors',
    license='Apache-2.0',
    packages=find_packages(include=['diffkd_mm', 'diffkd_mm.*']),
    cmdclass=dict(build_py=BuildWithMim),
    python_requires='>=3.10',
    # The OpenMMLab stack is an extra: users bring their own, and pip must not put the fork,
    # which installs under the same import names, on top of it. No version is asked for, so that
    # an installed torch stays.
    install_requires=requirements('runtime'),
    extras_require={name: requirements(name) for name in ('onedl', 'tests', 'docs')},
)
