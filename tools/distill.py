"""Writes a distillation's config for any pair of models, and says what it chose and why.

    python tools/distill.py STUDENT TEACHER [--method diffkd] [--out CONFIG] [--dry-run] [--train]

STUDENT and TEACHER are names of the model zoos of MMDetection, MMSegmentation and MMPretrain
(retinanet_r50_fpn_2x_coco), configs that a package ships (mmdet::retinanet/…) or config files.
Both are built and run on a blank image; features, class scores and predicted boxes are matched as
far as they fit. The config inherits the student's, is complete and can be changed and trained as
any other. With --dry-run nothing is written unless --out says where, and one step is taken.

After --train come options of tools/train.py: --work-dir, --amp, --cfg-options, …
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from mmengine.device import get_device

from diffkd_mm.configs import load_config
from diffkd_mm.errors import DistillationError
from diffkd_mm.recipes import METHODS, Recipe, config_text, describe, recommend, try_step

TRAIN = Path(__file__).parent / 'train.py'


def parse_args(argv: Sequence[str] | None = None) -> tuple[argparse.Namespace, list[str]]:
    """Parses the command line; what is not known is for ``tools/train.py``."""
    about = '\n'.join(f'  {name}: {method.about}' for name, method in METHODS.items())
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog=f'methods:\n{about}',
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('student', help='name, package::path or file')
    parser.add_argument('teacher', help='the same')
    parser.add_argument('--method', choices=METHODS, default='diffkd')
    parser.add_argument(
        '--out', type=Path, help='config to write; STUDENT_TEACHER_METHOD.py in this folder'
    )
    parser.add_argument('--overwrite', action='store_true', help='where there is such a file')
    parser.add_argument(
        '--teacher-checkpoint', help="path or URL of the teacher's weights; those of the zoo"
    )
    parser.add_argument('--train', action='store_true', help='train the config that was written')
    parser.add_argument('--dry-run', action='store_true', help='take one step on noise')
    parser.add_argument(
        '--shape', type=int, nargs=2, metavar=('H', 'W'), help='of its images in pixels; 256 256'
    )
    parser.add_argument('--batch-size', type=int, default=2, help='of it; 2')
    parser.add_argument(
        '--random-weights', action='store_true', help='read and download no weights for it'
    )
    args, rest = parser.parse_known_args(argv)
    if rest and not args.train:
        parser.error(f'unrecognized arguments: {" ".join(rest)} (options of train.py need --train)')
    return args, rest


def write(recipe: Recipe, args: argparse.Namespace) -> Path:
    """Writes the config, to the place asked for."""
    name = f'{recipe.student.stem}_{recipe.teacher.stem}_{recipe.method}.py'
    path = args.out or Path(name)
    if path.exists() and not args.overwrite:
        raise DistillationError(
            f'{str(path)!r} is there already: name another by --out, or say --overwrite.'
        )
    text = config_text(recipe, path.parent)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def dry_run(recipe: Recipe, args: argparse.Namespace) -> None:
    """Takes a step of the very config that is or would be written."""
    if recipe.teacher.checkpoint is None:  # a step can do without
        recipe = recipe._replace(teacher=recipe.teacher._replace(checkpoint='unknown'))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / 'config.py'
        path.write_text(config_text(recipe, folder))
        trial = try_step(
            load_config(str(path), 'distill.py'),
            tuple(args.shape) if args.shape else None,
            args.batch_size,
            get_device(),
            not args.random_weights,
        )
    print(trial._replace(reasons={name: point.why for name, point in recipe.points.items()}))


def main(argv: Sequence[str] | None = None) -> None:
    args, rest = parse_args(argv)
    try:
        recipe = recommend(args.student, args.teacher, args.method, args.teacher_checkpoint)
        print(describe(recipe))
        if args.out or args.train or not args.dry_run:
            path = write(recipe, args)
            print(f'written: {path}')
        if args.dry_run:
            dry_run(recipe, args)
    except DistillationError as error:
        raise SystemExit(f'distill.py: {error}') from error
    if args.train:
        raise SystemExit(subprocess.call([sys.executable, str(TRAIN), str(path), *rest]))
    if not args.dry_run:
        print(f'train it: python tools/train.py {path}')


if __name__ == '__main__':
    main()
