"""What training and testing from the command line have in common."""

import argparse
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.dist import is_distributed


def load_config(args: argparse.Namespace) -> Config:
    """Reads the config and applies the command line's options to it.

    Args:
        args (argparse.Namespace): Parsed options; ``config``, ``cfg_options``, ``work_dir`` and
            ``launcher`` are used.

    Returns:
        Config: The config, with a work dir.
    """
    cfg = Config.fromfile(args.config)
    cfg.launcher = args.launcher
    if args.cfg_options:
        cfg.merge_from_dict(args.cfg_options)
    if args.work_dir:
        cfg.work_dir = args.work_dir
    elif not cfg.get('work_dir'):
        cfg.work_dir = str(Path('work_dirs') / Path(args.config).stem)
    if args.launcher == 'pytorch' and get_device() == 'cpu':
        distribute_on_cpu(cfg)
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
