"""What the command lines of the tools have in common: reading a config, starting and ending."""

import argparse
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.dist import get_rank, is_distributed

from .compat import own_config
from .configs import load_config
from .distillers import Distiller
from .errors import DistillationError, first_line
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
    if args.launcher == 'slurm':
        use_slurms_ranks()
    if args.launcher in ('pytorch', 'slurm') and get_device() == 'cpu':
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

    MMEngine would choose a GPU by the local rank in both places. ``env_cfg.dist_cfg.timeout``, in
    seconds, is how long a process waits for the others; half an hour by default.
    """
    seconds = ((cfg.get('env_cfg') or {}).get('dist_cfg') or {}).get('timeout', 1800)
    torch.distributed.init_process_group('gloo', timeout=timedelta(seconds=seconds))
    wrapper = cfg.get('model_wrapper_cfg') or dict(
        broadcast_buffers=False, find_unused_parameters=cfg.get('find_unused_parameters', False)
    )
    cfg.model_wrapper_cfg = {'type': 'MMDistributedDataParallel', **wrapper, 'device_ids': None}
    if 'runner_type' in cfg:  # the FlexibleRunner, which has its wrapper in the strategy
        cfg.strategy = cfg.get('strategy') or dict(type='DDPStrategy')
        cfg.strategy.setdefault('model_wrapper', cfg.model_wrapper_cfg)


def use_slurms_ranks() -> None:
    """Gives PyTorch the ranks of Slurm's tasks, and each job a port of its own.

    ``MASTER_ADDR`` and ``MASTER_PORT`` of the environment come first. MMEngine would take one port
    for all jobs, of which two may share a node.
    """
    known = os.environ
    known.update(
        RANK=known['SLURM_PROCID'],
        WORLD_SIZE=known['SLURM_NTASKS'],
        LOCAL_RANK=known['SLURM_LOCALID'],
    )
    known.setdefault('MASTER_PORT', str(20000 + int(known['SLURM_JOB_ID']) % 10000))
    if 'MASTER_ADDR' not in known:
        command = ['scontrol', 'show', 'hostnames', known['SLURM_NODELIST']]
        known['MASTER_ADDR'] = subprocess.check_output(command, text=True).split()[0]


def explain_lost_processes(error: RuntimeError) -> None:
    """Ends the tool with one sentence if the error is a broken connection to other processes.

    Gloo has no exception of its own; NCCL ends the process without one.

    Raises:
        SystemExit: If it is one.
    """
    if 'gloo/transport' in str(error):
        raise SystemExit(
            f'rank {get_rank()} has lost the other processes: one of them failed, or its node is '
            f'gone or too slow; its own log says more. ({first_line(error)})'
        ) from error


def type_name(registered: str | type) -> str:
    """The name in a config's ``type``, which in MMEngine's pure Python configs is a class."""
    return registered if isinstance(registered, str) else registered.__name__


def end_process_group() -> None:
    """Ends the process group, if there is one.

    Left to the end of the interpreter, its threads may abort a process that is done.
    """
    if is_distributed():
        torch.distributed.destroy_process_group()
