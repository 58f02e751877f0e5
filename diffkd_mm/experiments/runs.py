"""What is compared: the arms, their runs, and the folders that the runs live in."""

import argparse
import fcntl
import itertools
import json
import math
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from inspect import signature
from pathlib import Path

from mmengine.config import Config, DictAction
from mmengine.registry import MODELS, init_default_scope

from diffkd_mm.configs import read_config
from diffkd_mm.errors import DistillationError
from diffkd_mm.registry import MODELS as OUR_MODELS
from diffkd_mm.reparam import fold, is_unfolded

from .fingerprints import fingerprint

FINISHED, STARTED, LOCK = 'finished.json', 'started.json', '.lock'


class FolderInUse(DistillationError):
    """Another process writes into the folder of a run."""


@dataclass(eq=False)
class Arm:
    """A row of a comparison: a config, at one value of the grid if there is one.

    Attributes:
        config (Path): Config file.
        values (list[str]): ``key=value`` pairs of the grid; empty without one.
        options (list[str]): All ``key=value`` pairs that override the config, those included.
        cfg (Config): The config with the options.
        fingerprint (str): Hash of what decides a run but its seed.
        parameters (float): Parameters of the tested model, in millions; NaN if not counted.
    """

    config: Path
    values: list[str]
    options: list[str]
    cfg: Config = field(repr=False)
    fingerprint: str = field(repr=False)
    parameters: float = math.nan

    @property
    def name(self) -> str:
        """The config's name and the values, as in the folder: ``fitnet/loss_weight=5``."""
        pairs = [pair.partition('=') for pair in self.values]
        short = ','.join(f'{key.rpartition(".")[2]}={value}' for key, _, value in pairs)
        return f'{self.config.stem}/{short}' if short else self.config.stem


@dataclass(eq=False)
class Run:
    """One training.

    Attributes:
        arm (Arm): What is trained.
        seed (int): Random seed.
        folder (Path): Its work dir.
    """

    arm: Arm
    seed: int
    folder: Path

    @property
    def name(self) -> str:
        """The arm's name and the seed, for messages."""
        return f'{self.arm.name} seed {self.seed}'

    def read(self, file: str) -> dict:
        """What a JSON file in the folder holds; nothing if it is missing or was cut short."""
        try:
            content = json.loads((self.folder / file).read_text())
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return {}
        return content if isinstance(content, dict) else {}

    def write(self, file: str, **content) -> None:
        """Writes a JSON file with the fingerprint into the folder, whole or not at all."""
        self.folder.mkdir(parents=True, exist_ok=True)
        part = self.folder / f'{file}.part'
        part.write_text(json.dumps(dict(fingerprint=self.arm.fingerprint, **content)))
        part.replace(self.folder / file)

    @property
    def outdated(self) -> bool:
        """Whether the folder is of another version of the config."""
        before = self.read(FINISHED) or self.read(STARTED)
        return before.get('fingerprint', self.arm.fingerprint) != self.arm.fingerprint

    @contextmanager
    def lock(self) -> Iterator[int]:
        """Holds the folder's lock.

        Yields:
            int: A file descriptor. A process that inherits it holds the lock as well, so that the
            folder stays locked as long as anybody writes into it.

        Raises:
            FolderInUse: If another process holds it.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.folder / LOCK, os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield descriptor
        except BlockingIOError:
            raise FolderInUse(f'another process is training in {self.folder}') from None
        finally:
            os.close(descriptor)

    def set_aside_if_outdated(self) -> None:
        """Moves the folder out of the way if the config has changed since."""
        if not self.outdated:
            return
        with self.lock():
            moved = f'{self.folder.name}.{time.strftime("%Y%m%d-%H%M%S")}'
            target = self.folder.rename(self.folder.with_name(moved))
        print(f'{self.name}: the config has changed; the old run is now {target}', flush=True)


def parse_options(pairs: list[str], option: str = '--cfg-options') -> dict:
    """Reads key=value pairs as ``--cfg-options`` of tools/train.py does.

    Args:
        pairs (list[str]): The pairs.
        option (str): Where a user wrote them.

    Raises:
        DistillationError: If one is no such pair, or sets the seed.
    """
    for pair in pairs:
        key, equals, _ = pair.partition('=')
        if not (key and equals):
            raise DistillationError(f'{option} {pair}: expected KEY=VALUE.')
        if key == 'randomness.seed':
            raise DistillationError(f'{option} {pair}: give the seeds by --seeds.')
    parser = argparse.ArgumentParser()
    parser.add_argument('--cfg-options', nargs='*', action=DictAction, default={})
    return parser.parse_args(['--cfg-options', *pairs]).cfg_options


def resolve(config: Path, options: list[str], option: str = '--cfg-options') -> Config:
    """The config with ``key=value`` pairs applied, and what it then imports imported.

    Args:
        config (Path): Config file.
        options (list[str]): The pairs.
        option (str): Where a user wrote them, or the last of them.

    Raises:
        DistillationError: If the file cannot be read, or an option does not fit it.
    """
    return read_config(str(config), 'compare.py', parse_options(options, option), option)


def student_parameters(cfg: Config) -> float:
    """Millions of parameters of the model that is tested, its branches folded.

    Raises:
        DistillationError: If the model cannot be built.
    """
    if 'model' not in cfg:
        raise DistillationError(f'{cfg.filename}: it has no `model`.')
    init_default_scope(cfg.get('default_scope', 'mmdet'))
    model_cfg = cfg.model.copy()
    if 'data_preprocessor' in cfg:
        model_cfg.setdefault('data_preprocessor', cfg.data_preprocessor)
    try:
        model = MODELS.build(model_cfg)
    except Exception as error:  # of any model's constructor
        raise DistillationError(
            f'{cfg.filename}: its model cannot be built: {type(error).__name__}: {error}'
        ) from error
    tested = getattr(model, 'student', model)
    if is_unfolded(tested.state_dict()):
        tested = fold(tested)
    return sum(p.numel() for p in tested.parameters()) / 1e6


def parse_grid(specifications: list[str]) -> dict[str, list[str]]:
    """Reads ``KEY=VALUE,VALUE,...``; a value may be a list in brackets.

    Returns:
        dict[str, list[str]]: Values by key.

    Raises:
        DistillationError: If a specification has no or equal values, or a value cannot be part of
            a folder's name.
    """
    grid: dict[str, list[str]] = {}
    for specification in specifications:
        key, _, text = specification.partition('=')
        values = re.findall(r'(?:[^,\[(]|\[[^\]]*\]|\([^)]*\))+', text)
        if not (key and values) or len(set(values)) < len(values) or key in grid:
            raise DistillationError(
                f'--grid {specification}: expected KEY=VALUE,VALUE,... with values that differ.'
            )
        if '/' in text:
            raise DistillationError(f'--grid {specification}: a value names a folder; no slash.')
        grid[key] = values
    return grid


def has_place_for(cfg: Config, key: str) -> bool:
    """Whether what a dotted key is to be set in exists in the config."""
    node = cfg
    for part in key.split('.')[:-1]:
        if isinstance(node, list) and part.isdecimal() and int(part) < len(node):
            node = node[int(part)]
        elif isinstance(node, dict | Config) and part in node:
            node = node[part]
        else:
            return False
    return isinstance(node, dict | list | Config)


def option_of(cfg: Config, key: str) -> object:
    """The value that a config has at a dotted key, or the default of what the option is for.

    None where the config has no place for the key, or its default is not known.
    """
    if not has_place_for(cfg, key):
        return None
    *path, option = key.split('.')
    node = cfg
    for part in path:
        node = node[int(part)] if isinstance(node, list) else node[part]
    if isinstance(node, list):
        return None
    if option in node:
        value = node[option]
        return value if isinstance(value, str | int | float) else str(value)
    target = OUR_MODELS.get(node['type']) if isinstance(node.get('type'), str) else None
    parameter = signature(target.__init__).parameters.get(option) if target else None
    return None if parameter is None or parameter.default is parameter.empty else parameter.default


def group_by_option(arms: list[Arm], key: str) -> dict[str, dict[object, Arm]]:
    """The arms by their value of an option, in lines: a config's own where it has several values.

    Args:
        arms (list[Arm]): The arms.
        key (str): Dotted key of the option, such as ``model.points.fpn.loss.loss_weight``.

    Returns:
        dict: Per line its arms by value, in rising order. The line without a name has the configs
        of one value each.

    Raises:
        DistillationError: If no arm has the option, or two of a line have one value.
    """
    found = [(value, arm) for arm in arms if (value := option_of(arm.cfg, key)) is not None]
    if not found:
        raise DistillationError(f'--against {key}: no config has this option.')
    stems = [arm.config.stem for _, arm in found]
    lines: dict[str, dict[object, Arm]] = {}
    for value, arm in found:
        stem = arm.config.stem
        line = lines.setdefault(stem if stems.count(stem) > 1 else '', {})
        if value in line:
            raise DistillationError(
                f'--against {key}: {line[value].name} and {arm.name} both have {value}; compare '
                'configs that differ in it alone.'
            )
        line[value] = arm
    return {
        name: {value: line[value] for value in sorted(line, key=as_number)}
        for name, line in lines.items()
    }


def as_number(value: object) -> tuple[bool, float, str]:
    """What to sort values of an option by: numbers by size, then the others by their text."""
    number = isinstance(value, int | float)
    return not number, float(value) if number else 0.0, str(value)


def plan_arms(configs: list[Path], options: list[str], grid: dict[str, list[str]]) -> list[Arm]:
    """Every config at every value of the grid.

    A key of the grid is left out for configs that have no place for it, such as the weight of a
    distillation loss for the student alone.

    Args:
        configs (list[Path]): Config files.
        options (list[str]): ``key=value`` pairs that override every config.
        grid (dict[str, list[str]]): Values by key.

    Raises:
        DistillationError: If two configs have one name, and so would have one folder, if one cannot
            be read or its model not be built, or if none has a place for a key of the grid.
    """
    stems = [config.stem for config in configs]
    if len(set(stems)) < len(stems):
        raise DistillationError(f'Two configs of one name: {", ".join(stems)}.')
    arms, placed = [], set()
    for config in configs:
        cfg = resolve(config, options)
        keys = [key for key in grid if has_place_for(cfg, key)]
        placed |= set(keys)
        for values in itertools.product(*(grid[key] for key in keys)):
            pairs = [f'{key}={value}' for key, value in zip(keys, values)]
            resolved = resolve(config, options + pairs) if pairs else cfg
            facts = resolved, fingerprint(resolved), student_parameters(resolved)
            arms.append(Arm(config, pairs, options + pairs, *facts))
    if missing := [key for key in grid if key not in placed]:
        raise DistillationError(f'--grid {missing[0]}: none of the configs has a place for it.')
    return arms


def override(arms: list[Arm], options: list[str]) -> list[Arm]:
    """The arms with more ``key=value`` pairs, which do not show in their names.

    Raises:
        DistillationError: If a pair does not fit a config.
    """
    overridden = []
    for arm in arms if options else ():
        cfg = resolve(arm.config, arm.options + options, '--report-options')
        facts = dict(options=arm.options + options, cfg=cfg, fingerprint=fingerprint(cfg))
        overridden.append(replace(arm, **facts))
    return overridden or arms


def plan(arms: list[Arm], seeds: list[int], work_dir: Path) -> list[Run]:
    """All runs, seed by seed, so that a first table is complete early."""
    return [Run(arm, seed, work_dir / arm.name / f'seed_{seed}') for seed in seeds for arm in arms]
