"""The trainings of a comparison, their folders and what marks them as started and finished."""

import argparse
import hashlib
import json
import time
from dataclasses import dataclass, field
from pathlib import Path

from mmengine.config import Config, DictAction

from diffkd_mm.configs import load_config
from diffkd_mm.errors import DistillationError

FINISHED, STARTED = 'finished.json', 'started.json'


@dataclass
class Run:
    """One training.

    Attributes:
        config (Path): Config file.
        seed (int): Random seed.
        folder (Path): Its work dir.
        options (list[str]): ``key=value`` pairs that override the config.
        fingerprint (str): Hash of the resolved config, by which a change of it is noticed.
    """

    config: Path
    seed: int
    folder: Path
    options: list[str]
    fingerprint: str = field(repr=False)

    @property
    def name(self) -> str:
        """The config's name and the seed, for messages."""
        return f'{self.config.stem} seed {self.seed}'

    def state(self, file: str) -> dict:
        """What one of the marks holds; nothing if the run has no such mark."""
        path = self.folder / file
        return json.loads(path.read_text()) if path.exists() else {}

    @property
    def finished(self) -> bool:
        """Whether it was trained to the end with the config as it is now."""
        return self.state(FINISHED).get('fingerprint') == self.fingerprint

    def mark(self, file: str) -> None:
        """Writes one of the marks."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / file).write_text(json.dumps(dict(fingerprint=self.fingerprint)))


def parse_options(pairs: list[str]) -> dict:
    """Reads key=value pairs as ``--cfg-options`` of tools/train.py does."""
    parser = argparse.ArgumentParser()
    parser.add_argument('--cfg-options', nargs='*', action=DictAction, default={})
    return parser.parse_args(['--cfg-options', *pairs]).cfg_options


def resolve(config: Path, options: list[str]) -> Config:
    """The config with the ``key=value`` pairs applied."""
    cfg = Config.fromfile(config)
    cfg.merge_from_dict(parse_options(options))
    return cfg


def fingerprint(cfg: Config) -> str:
    """Hash of what decides a run but its seed: the config, the teacher's, and loaded weights."""
    digest = hashlib.sha256(cfg.pretty_text.encode())
    teacher = cfg.get('model', {}).get('teacher') or {}
    if 'config' in teacher:
        digest.update(load_config(teacher['config']).pretty_text.encode())
    for checkpoint in (teacher.get('checkpoint'), cfg.get('load_from')):
        if checkpoint and Path(checkpoint).is_file():
            digest.update(hashlib.sha256(Path(checkpoint).read_bytes()).digest())
    return digest.hexdigest()


def plan(configs: list[Path], seeds: list[int], work_dir: Path, options: list[str]) -> list[Run]:
    """All runs, seed by seed, so that a first table is complete early.

    Raises:
        DistillationError: If two configs have one name, and so would have one folder.
    """
    stems = [config.stem for config in configs]
    if len(set(stems)) < len(stems):
        raise DistillationError(f'Two configs of one name: {", ".join(stems)}.')
    prints = {config: fingerprint(resolve(config, options)) for config in configs}
    return [
        Run(config, seed, work_dir / config.stem / f'seed_{seed}', options, prints[config])
        for seed in seeds
        for config in configs
    ]


def set_aside_if_outdated(run: Run) -> None:
    """Moves the folder of a run whose config has changed since out of the way."""
    before = run.state(FINISHED) or run.state(STARTED)
    if before and before['fingerprint'] != run.fingerprint:
        target = run.folder.with_name(f'{run.folder.name}.{time.strftime("%Y%m%d-%H%M%S")}')
        run.folder.rename(target)
        print(f'{run.name}: the config has changed; the old run is now {target}', flush=True)
