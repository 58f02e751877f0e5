"""Evaluates a checkpoint; a distillation config needs no teacher for it."""

import argparse
import os

from mmengine.config import Config, ConfigDict, DictAction
from mmengine.runner import Runner

from diffkd_mm.checkpoints.reading import read_all_safely
from diffkd_mm.errors import DistillationError
from diffkd_mm.hooks import RefuseUnfoldedHook
from diffkd_mm.launch import end_process_group, explain_lost_processes, launch_config, type_name


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint of the student or of the distillation')
    parser.add_argument('--work-dir', help='folder for the metrics')
    parser.add_argument(
        '--split',
        choices=['test', 'val'],
        default='test',
        help="val: the config's val_dataloader and val_evaluator; default: test",
    )
    parser.add_argument('--out', help='pickle file for the predictions')
    parser.add_argument('--show', action='store_true', help='show the predictions in a window')
    parser.add_argument('--show-dir', help='folder, within the work dir, for pictures')
    parser.add_argument('--wait-time', type=float, default=2, help='seconds per picture shown')
    parser.add_argument('--tta', action='store_true', help='test-time augmentation')
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
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)
    args = parser.parse_args()
    if args.out and not args.out.endswith(('.pkl', '.pickle')):
        parser.error('--out must end with .pkl or .pickle')
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    return args


def draw_predictions(cfg: Config, args: argparse.Namespace) -> None:
    """Turns on the visualization hook, whose options differ slightly between the packages."""
    hook = cfg.default_hooks.get('visualization')
    if hook is None:
        raise SystemExit('--show and --show-dir need default_hooks.visualization in the config.')
    name = type_name(hook.type)
    if name.startswith('Det'):
        hook.update(draw=True, test_out_dir=args.show_dir)
    elif name.startswith('Seg'):
        hook.update(draw=True)
        if args.show_dir:
            cfg.visualizer.save_dir = args.show_dir
    else:
        hook.update(enable=True, out_dir=args.show_dir)
    hook.update(show=args.show, wait_time=args.wait_time)


def use_validation_split(cfg: Config) -> None:
    """Tests on what the training validates on."""
    if not cfg.get('val_dataloader') or not cfg.get('val_evaluator'):
        raise SystemExit('--split val needs val_dataloader and val_evaluator in the config.')
    cfg.test_dataloader, cfg.test_evaluator = cfg.val_dataloader, cfg.val_evaluator
    if not cfg.get('test_cfg'):
        cfg.test_cfg = dict(type='TestLoop')


def leave_out_teacher(cfg: Config) -> None:
    """Testing needs the student alone, so not even the teacher's config is looked at."""
    if type_name(cfg.model.type).split('.')[-1] == 'Distiller':
        # Set one by one: a config's `update` would merge into the points.
        cfg.model.teacher, cfg.model.points, cfg.model.inherit = None, {}, ()


def use_tta(cfg: Config) -> None:
    """Wraps the model and replaces the pipeline as the config's ``tta_*`` entries say."""
    if 'tta_model' not in cfg or 'tta_pipeline' not in cfg:
        raise SystemExit('--tta needs tta_model and tta_pipeline in the config.')
    cfg.model = ConfigDict(**cfg.tta_model, module=cfg.model)
    dataset = cfg.test_dataloader.dataset
    while 'dataset' in dataset:
        dataset = dataset.dataset
    dataset.pipeline = cfg.tta_pipeline


def dump_predictions(runner: Runner, cfg: Config, out: str) -> None:
    """Adds a metric that writes all predictions to a file."""
    if cfg.get('default_scope') == 'mmdet':
        from mmdet.evaluation import DumpDetResults as Dump
    else:
        from mmengine.evaluator import DumpResults as Dump
    runner.test_evaluator.metrics.append(Dump(out_file_path=out))


def main() -> None:
    args = parse_args()
    cfg = launch_config(args)
    # The copy of a config in a work dir says so after a training with --resume.
    cfg.load_from, cfg.resume = args.checkpoint, False
    if args.split == 'val':
        use_validation_split(cfg)
    leave_out_teacher(cfg)
    if args.show or args.show_dir:
        draw_predictions(cfg, args)
    if args.tta:
        use_tta(cfg)
    if not args.trust:
        read_all_safely()
    try:
        runner = Runner.from_cfg(cfg)
        runner.register_hook(RefuseUnfoldedHook())
        if args.out:
            dump_predictions(runner, cfg, args.out)
        runner.test()
    except DistillationError as error:
        raise SystemExit(f'{type(error).__name__}: {error}') from error
    except RuntimeError as error:
        explain_lost_processes(error)
        raise
    end_process_group()


if __name__ == '__main__':
    main()
