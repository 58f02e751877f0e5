"""What the tools that measure steps have in common on the command line."""

import argparse
import time
from pathlib import Path

import torch
from mmengine.config import Config, DictAction
from mmengine.registry import init_default_scope

from .models import take_images_of_any_size
from .steps import Conditions
from .timing import Phases


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the config and on what it is measured."""
    parser.add_argument('config', type=Path, help='config file of a distillation')
    parser.add_argument('--device', default='cpu', help='cpu (default) or cuda')
    parser.add_argument(
        '--shape', nargs=2, type=int, default=(800, 1216), metavar=('H', 'W'), help='image size'
    )
    parser.add_argument('--batch-size', type=int, default=1, help='images per step')
    parser.add_argument('--iters', type=int, default=5, help='measured steps')
    parser.add_argument(
        '--amp', action='store_true', help='as train.py: float16, bfloat16 on a CPU'
    )
    parser.add_argument('--threads', type=int, help="CPU threads, PyTorch's default otherwise")
    parser.add_argument(
        '--cpu-time',
        action='store_true',
        help='processor time of all threads instead of wall-clock time, for a busy machine',
    )
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, help='override the config')


def prepare(cfg: Config, args: argparse.Namespace) -> Conditions:
    """Sets threads, clock, default scope, and what a segmentor pads to.

    Args:
        cfg (Config): The config.
        args (argparse.Namespace): The options of :func:`add_options`.

    Returns:
        Conditions: On what it is measured.
    """
    if args.threads:
        torch.set_num_threads(args.threads)
    if args.cpu_time:
        Phases.clock = staticmethod(time.process_time)
    # Random weights make some activations so small that the CPU computes them slowly.
    torch.set_flush_denormal(True)
    shape = tuple(args.shape)
    take_images_of_any_size(cfg)
    init_default_scope(cfg.get('default_scope', 'mmengine'))
    return Conditions(args.device, shape, args.batch_size, args.amp, args.iters)
