"""What the command lines of the tools have in common: reading a config, starting and ending."""

import argparse
import sys
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.dist import is_distributed

from .compat import own_config
from .configs import load_config
from .distillers import Distiller
from .errors import DistillationError
from .options import check_options


def launch_config(args: argparse.Namespace) -> Config:
    """Reads the config and applies the command line's options to it.

    Args:
        args (argparse.Namespace): Parsed options; ``config``, ``cfg_options``, ``work_dir`` and
            ``launcher`` are used.

    Returns:
        Config: The config, with a work dir.

    Raises:
        SystemExit: If the config cannot be read.
    """
    cfg = command_config(args.config, args.cfg_options)
    cfg.launcher = args.launcher
    if args.work_dir:
        cfg.work_dir = args.work_dir
    elif not cfg.get('work_dir'):
        cfg.work_dir = str(Path('work_dirs') / Path(own_config(args.config)).stem)
    if args.launcher == 'pytorch' and get_device() == 'cpu':
        distribute_on_cpu(cfg)
    return cfg


def command_config(path: str | Path, options: dict | None = None) -> Config:
    """Reads the config that a command line names and applies its ``--cfg-options``.

    Raises:
        SystemExit: If there is no such config, it cannot be read, has no model, or an option that
            its distiller does not have.
    """
    try:
        cfg = load_config(str(path), Path(sys.argv[0]).name, options)
        if type_name(cfg.model.get('type', '')).split('.')[-1] == Distiller.__name__:
            check_options(cfg.model, Distiller, 'model')
    except DistillationError as error:
        raise SystemExit(f'{type(error).__name__}: {error}') from error
    return cfg


def distribute_on_cpu(cfg: Config) -> None:
    """Starts a gloo group and wraps the model without devices.

    MMEngine would choose a GPU by the local rank in both places.
    """
    torch.distributed.init_process_group('gloo')
    wrapper = cfg.get('model_wrapper_cfg') or dict(
        broadcast_buffers=False, find_unused_parameters=cfg.get('find_unused_parameters', False)
    )
    cfg.model_wrapper_cfg = {'type': 'MMDistributedDataParallel', **wrapper, 'device_ids': None}


def type_name(registered: str | type) -> str:
    """The name in a config's ``type``, which in MMEngine's pure Python configs is a class."""
    return registered if isinstance(registered, str) else registered.__name__


def end_process_group() -> None:
    """Ends the process group, if there is one.

    Left to the end of the interpreter, its threads may abort a process that is done.
    """
    if is_distributed():
        torch.distributed.destroy_process_group()
