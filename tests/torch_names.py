"""Names of PyTorch that the package uses, so that a new one is looked up in the oldest PyTorch.

    .venv-openmmlab/bin/python tests/torch_names.py

writes ``assets/torch_names.txt`` anew: the names that are in the PyTorch that runs it, and names on
its screen those that are not. ``test_versions.py`` compares the package with the file.
"""

import ast
import importlib
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / 'diffkd_mm'
KNOWN = Path(__file__).parent / 'assets' / 'torch_names.txt'


def used() -> dict[str, Path]:
    """Dotted names below ``torch``, each with a file that has it; ``compat.py`` knows versions."""
    found: dict[str, Path] = {}
    for path in sorted(PACKAGE.rglob('*.py')):
        if path.name != 'compat.py' and '.mim' not in path.parts:
            found |= dict.fromkeys(_names(ast.parse(path.read_text())), path)
    return found


def _names(tree: ast.Module) -> set[str]:
    meanings, names = {}, set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                package = alias.name.partition('.')[0]
                meanings[alias.asname or package] = alias.name if alias.asname else package
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            imported = {x.asname or x.name: f'{node.module}.{x.name}' for x in node.names}
            meanings |= imported
            names |= set(imported.values())
    for node in ast.walk(tree):
        parts = []
        while isinstance(node, ast.Attribute):
            parts.append(node.attr)
            node = node.value
        if parts and isinstance(node, ast.Name) and node.id in meanings:
            names.add('.'.join([meanings[node.id], *reversed(parts)]))
    return {name for name in names if name.startswith('torch.')}


def exists(name: str) -> bool:
    """Whether this PyTorch has it."""
    parts = name.split('.')
    found = importlib.import_module(parts[0])
    for i, part in enumerate(parts[1:], 2):
        try:
            found = getattr(found, part)
        except AttributeError:
            try:
                found = importlib.import_module('.'.join(parts[:i]))
            except ImportError:
                return False
    return True


if __name__ == '__main__':
    there = {name: exists(name) for name in sorted(used())}
    KNOWN.write_text(''.join(f'{name}\n' for name, is_there in there.items() if is_there))
    print('missing:', [name for name, is_there in there.items() if not is_there])
