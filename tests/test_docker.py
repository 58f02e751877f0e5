"""The container has what the constraints and the clone say; building it takes Docker."""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / 'tools'))

import install  # noqa: E402
from installer.environment import read_requirements  # noqa: E402

DOCKERFILE = (ROOT / 'docker' / 'Dockerfile').read_text()
STACK = install.STACKS['onedl']
ARGUMENTS = dict(re.findall(r'^ARG (\w+)=(\S+)', DOCKERFILE, re.MULTILINE))


def test_cuda_is_that_of_the_constraints():
    """The ops are compiled by the image's nvcc against torch's headers."""
    pins = read_requirements([STACK.constraints])
    assert pins['cuda-toolkit'].startswith(ARGUMENTS['CUDA'])
    assert ARGUMENTS['BASE'].startswith('nvidia/cuda:${CUDA}-devel-')


def test_python_is_that_of_the_constraints():
    tested = re.search(r'CPython (\d+\.\d+)', STACK.constraints.read_text())[1]
    assert ARGUMENTS['PYTHON'] == tested


def test_versions_come_from_the_constraints_alone():
    """By the installer: a version here would be one more to keep in step."""
    assert '\nCOPY . .\n' in DOCKERFILE and 'tools/install.py --venv' in DOCKERFILE
    assert '==' not in DOCKERFILE and 'pip install' not in DOCKERFILE
    environment = re.findall(r'^- ``(\w+)``|, ``(\w+)``', install.__doc__, re.MULTILINE)
    known = {name for names in environment for name in names if name}
    assert {'FORCE_CUDA', 'TORCH_CUDA_ARCH_LIST'} <= known & ARGUMENTS.keys()


def test_what_the_installer_reads_reaches_the_image():
    ignored = (ROOT / 'docker' / 'Dockerfile.dockerignore').read_text().split()
    needed = [*STACK.requirements, STACK.constraints, STACK.hashes]
    needed = {path.relative_to(ROOT).parts[0] for path in needed}
    needed |= {'tools', 'diffkd_mm', 'configs', 'setup.py', 'README.md', 'model-index.yml'}
    assert not needed & set(ignored)
    assert '.venv' in ignored
