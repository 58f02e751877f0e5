"""Writing a recipe as a config that can be read, changed and trained."""

import os
from pathlib import Path
from textwrap import indent, wrap
from typing import Any

from ..errors import DistillationError
from .methods import METHODS
from .recipe import Recipe

WIDTH = 100


def describe(recipe: Recipe) -> str:
    """The recipe in a few lines: what was chosen, why, and what could not be matched."""
    student, teacher = recipe.kinds
    lines = [
        f'student: {recipe.student.config} ({student})',
        f'teacher: {recipe.teacher.config} ({teacher}), weights: '
        f'{recipe.teacher.checkpoint or "not known"}',
        f'method: {recipe.method}, {METHODS[recipe.method].about}',
    ]
    lines += [
        f'{name}: {point.what}; {_parts(point.config)}; {point.why}'
        for name, point in recipe.points.items()
    ]
    if recipe.inherit:
        lines.append(f"{', '.join(recipe.inherit)}: start as the teacher's, as FGD's authors do")
    lines += [f'training: {setting.why}' for setting in recipe.training]
    lines += [f'not compared: {reason}' for reason in recipe.unmatched]
    return '\n'.join(lines)


def _parts(config: dict) -> str:
    parts = [config[key]['type'] for key in ('connector', 'loss') if key in config]
    return ' and '.join(parts)


def config_text(recipe: Recipe, folder: str | Path = '.') -> str:
    """The recipe as the text of a config.

    Args:
        recipe (Recipe): The recipe.
        folder (str | Path): Where the file will be: paths of configs in it start there.

    Returns:
        str: The text.

    Raises:
        DistillationError: If no weights of the teacher are known.
    """
    if recipe.teacher.checkpoint is None:
        raise DistillationError(
            f'teacher: no weights are listed for {recipe.teacher.config!r}; give them by '
            '--teacher-checkpoint.'
        )
    folder = Path(folder)
    imports = list(dict.fromkeys([*recipe.custom_imports, 'diffkd_mm']))
    teacher = dict(
        config=_path(recipe.teacher.config, folder, '{{fileDirname}}/'),
        checkpoint=recipe.teacher.checkpoint,
    )
    inherit = [f'    inherit={recipe.inherit!r},\n'] if recipe.inherit else []
    points = ''.join(
        _comment(f'{point.what}; {point.why}.', 8)
        + f'        {name}={_literal(point.config, 8)},\n'
        for name, point in recipe.points.items()
    )
    settings = ''.join(
        '\n' + _comment(f'{setting.why[0].upper()}{setting.why[1:]}.', 0) + setting.code + '\n'
        for setting in recipe.training
    )
    return (
        f'"""{_heading(recipe)}"""\n\n'
        f'_base_ = {_path(recipe.student.config, folder, "./")!r}\n\n'
        f'custom_imports = dict(imports={imports!r}, allow_failed_imports=False)\n\n'
        'model = dict(\n'
        '    _delete_=True,\n'
        "    type='diffkd_mm.Distiller',\n"
        '    student=_base_.model,\n'
        f'    teacher={_literal(teacher, 4)},\n'
        + ''.join(inherit)
        + f'    points=dict(\n{points}    ),\n)\n'
        + settings
    )


def _heading(recipe: Recipe) -> str:
    student, teacher = recipe.kinds
    first = f'{student} learns from {teacher} by {recipe.method}. Written by tools/distill.py.'
    text = '\n'.join(wrap(first, WIDTH - 3))
    if recipe.unmatched:
        lines = [
            '\n'.join(wrap(f'- {reason}.', WIDTH, subsequent_indent='  '))
            for reason in recipe.unmatched
        ]
        text += '\n\nNot compared:\n\n' + '\n'.join(lines) + '\n'
    return text.replace('\\', '\\\\').replace('"""', "'''")


def _path(config: str, folder: Path, prefix: str) -> str:
    """A config as another file names it: of a package as it is, a path from the file's folder."""
    if '::' in config:
        return config
    path = os.path.relpath(Path(config).resolve(), folder.resolve())
    return prefix + Path(path).as_posix()


def _comment(text: str, columns: int) -> str:
    lines = wrap(text, WIDTH - columns - 2)
    return indent('\n'.join(f'# {line}' for line in lines) + '\n', ' ' * columns)


def _literal(value: Any, columns: int) -> str:
    """A value as Python code: a dict that does not fit into a line has one for each of its keys."""
    if not isinstance(value, dict):
        return repr(value)
    items = [f'{key}={_literal(item, columns + 4)}' for key, item in value.items()]
    line = f'dict({", ".join(items)})'
    if '\n' not in line and len(line) <= WIDTH - columns - 15:  # its name and a comma
        return line
    inner = ' ' * (columns + 4)
    return 'dict(\n' + ''.join(f'{inner}{item},\n' for item in items) + ' ' * columns + ')'
