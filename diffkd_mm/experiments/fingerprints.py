"""What tells runs of one config from those of another version of it."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

from mmengine.config import Config

from diffkd_mm.configs import load_config
from diffkd_mm.distillers.teachers import teacher_options


def fingerprint(cfg: Config) -> str:
    """Hash of what decides a run but its seed: the config, the teacher's, and loaded weights.

    Weights are those of every ``checkpoint``, such as a teacher's or a backbone's in its
    ``init_cfg``, and ``load_from``, as far as they are local files.
    """
    digest = hashlib.sha256(cfg.pretty_text.encode())
    model = cfg.get('model') or {}
    for teacher in teacher_options(model.get('teacher') or None).values():
        if isinstance(teacher, dict) and 'config' in teacher:
            digest.update(load_config(teacher['config']).pretty_text.encode())
    for checkpoint in dict.fromkeys([*named_checkpoints(cfg.to_dict()), cfg.get('load_from')]):
        if checkpoint and Path(checkpoint).is_file():
            digest.update(hashlib.sha256(Path(checkpoint).read_bytes()).digest())
    return digest.hexdigest()


def named_checkpoints(node: object) -> Iterator[str]:
    """Every ``checkpoint`` that a part of a config names."""
    if isinstance(node, dict):
        if isinstance(node.get('checkpoint'), str):
            yield node['checkpoint']
        node = list(node.values())
    for part in node if isinstance(node, list | tuple) else ():
        yield from named_checkpoints(part)
