"""Trains a config of MMDetection, MMSegmentation or MMPretrain, distilled or not."""

import argparse
import os

from mmengine.config import Config, DictAction
from mmengine.device import get_device
from mmengine.hooks import CheckpointHook
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from diffkd_mm.checkpoints.reading import read_all_safely
from diffkd_mm.checkpoints.storage import has_checkpoints
from diffkd_mm.errors import DistillationError
from diffkd_mm.hooks import DataWaitHook, RefuseUnfoldedHook
from diffkd_mm.launch import end_process_group, explain_lost_processes, launch_config, type_name


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument('--work-dir', help='folder for logs and checkpoints')
    parser.add_argument('--amp', action='store_true', help='automatic mixed precision')
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help='scale the learning rate by the ratio of actual to base batch size',
    )
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        help='resume from a checkpoint; without a path, from the latest in the work dir',
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        help='key=value pairs that override the config',
    )
    parser.add_argument(
        '--trust', action='store_true', help='read checkpoints even if they could run code'
    )
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none')
    # torchrun sets the environment variable; torch.distributed.launch passes the option
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)
    args = parser.parse_args()
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    return args


def use_safe_checkpoints(cfg: Config) -> None:
    """Puts our checkpoint hook in place of MMEngine's where a config names the class itself."""
    hook = cfg.get('default_hooks', {}).get('checkpoint') or {}
    if hook.get('type') is CheckpointHook:
        hook.type = 'diffkd_mm.CheckpointHook'


def use_amp(cfg: Config) -> None:
    """Makes the optimizer wrapper one of mixed precision, on a GPU with dynamic loss scaling."""
    wrapper = type_name(cfg.optim_wrapper.get('type', 'OptimWrapper'))
    if wrapper not in ('OptimWrapper', 'AmpOptimWrapper'):
        raise SystemExit(f'--amp works with OptimWrapper, not with {wrapper}.')
    if get_device() == 'cpu':
        cfg.optim_wrapper.type = 'diffkd_mm.CPUAmpOptimWrapper'
        for option in ('loss_scale', 'dtype', 'use_fsdp'):  # of MMEngine's wrapper alone
            cfg.optim_wrapper.pop(option, None)
        return
    cfg.optim_wrapper.type = 'AmpOptimWrapper'
    cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')


def scale_learning_rate(cfg: Config) -> None:
    """Switches on MMEngine's scaling by ``auto_scale_lr.base_batch_size``."""
    if 'base_batch_size' not in cfg.get('auto_scale_lr', {}):
        raise SystemExit('--auto-scale-lr needs auto_scale_lr.base_batch_size in the config.')
    cfg.auto_scale_lr.enable = True


def main() -> None:
    args = parse_args()
    cfg = launch_config(args)
    if not args.trust:
        read_all_safely()
    use_safe_checkpoints(cfg)
    if args.amp:
        use_amp(cfg)
    if args.auto_scale_lr:
        scale_learning_rate(cfg)
    if args.resume == 'auto':
        # Where there is nothing to resume, the config's own `load_from` still counts.
        hook = (cfg.get('default_hooks') or {}).get('checkpoint') or {}
        if has_checkpoints(cfg.work_dir, hook.get('out_dir')):
            cfg.resume, cfg.load_from = True, None
    elif args.resume:
        cfg.resume, cfg.load_from = True, args.resume
    try:
        # As MMDetection's tool: MMEngine's other runner on demand.
        runner = RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)
        runner.register_hook(RefuseUnfoldedHook())
        runner.register_hook(DataWaitHook())
        runner.train()
    except (DistillationError, FloatingPointError) as error:
        # The message says what to change; a traceback would bury it.
        raise SystemExit(f'{type(error).__name__}: {error}') from error
    except RuntimeError as error:
        explain_lost_processes(error)
        raise
    end_process_group()


if __name__ == '__main__':
    main()
