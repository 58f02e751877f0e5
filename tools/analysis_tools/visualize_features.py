"""Pictures of what a trained distillation compares, for a few images.

    python tools/analysis_tools/visualize_features.py CONFIG CHECKPOINT [--images FILE...]

Of feature maps the saliency of student, refined (denoised) student and teacher beside the image
(DiffKD, Fig. 2 and 7); of a classifier's logits the scores of the teacher's top classes (Fig. 6).
With --noise-weight the histogram of the noise adapter's γ (Fig. 5) instead. During a training,
diffkd_mm.PicturesHook draws the same.
"""

import argparse
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import torch
from matplotlib.figure import Figure
from mmengine.config import Config, DictAction

from diffkd_mm.analysis.trained import Batches, build_trained, load_files, load_weights
from diffkd_mm.distillers import (
    Distiller,
    features_of,
    images_of,
    points_to_look_at,
    record_noise_weights,
)
from diffkd_mm.errors import DistillationError
from diffkd_mm.launch import command_config
from diffkd_mm.pictures import draw_features, draw_noise_weights, save
from diffkd_mm.progress import Progress, print_now


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='config of a distillation')
    parser.add_argument('checkpoint', help='checkpoint of that distillation, with its connectors')
    parser.add_argument('--point', help='distillation point; default: the first with a connector')
    parser.add_argument('--level', type=int, default=0, help='level of the point; default: 0')
    parser.add_argument(
        '--num-images', type=int, help='test images; default: 4, for --noise-weight 200'
    )
    parser.add_argument(
        '--images', nargs='+', type=Path, default=[], metavar='FILE', help='image files instead'
    )
    parser.add_argument(
        '--noise-weight', action='store_true', help='draw the histogram of γ of all levels'
    )
    parser.add_argument('--out', type=Path, default=Path('features.png'), help='PNG to write')
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument(
        '--trust', action='store_true', help='read checkpoints even if they could run code'
    )
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, help='override the config')
    args = parser.parse_args(argv)
    if args.num_images is None:
        args.num_images = 200 if args.noise_weight else 4
    if args.num_images < 1:
        parser.error(f'--num-images {args.num_images}: it must be 1 or more.')
    return args


def find_point(model: Distiller, name: str | None) -> str:
    """The point of this name, or the first with a connector, or the first."""
    points = points_to_look_at(model, name)
    return next((x for x, point in points.items() if point.connector is not None), [*points][0])


def draw(
    cfg: Config, model: Distiller, classes: Sequence[str] | None, args: argparse.Namespace
) -> Figure:
    """Draws the features of the images, or γ.

    Raises:
        DistillationError: If the point has no such level, no logits or no noise adapter.
    """
    point = args.point
    points = points_to_look_at(model, point)
    data = [load_files(cfg, args.images)] if args.images else Batches(cfg, 'test', args.num_images)
    if args.noise_weight:
        with record_noise_weights(points[point]) as weights:
            for batch in Progress(len(data), 'batches', print_now).over(data):
                features_of(model, points, batch)
        if not any(weights.values()):
            raise DistillationError(f'point {point} has no noise adapter.')
        return draw_noise_weights({k: torch.cat(v).cpu().numpy() for k, v in weights.items()})
    (batch,) = islice(data, 1)
    features = features_of(model, points, batch)[point]
    number = len(features['teacher'])
    if not 0 <= args.level < number:
        raise DistillationError(
            f'--level {args.level}: point {point} has {number} levels, 0 the first.'
        )
    images = images_of(model, batch)[: None if args.images else args.num_images]
    found = draw_features(images, features, args.level, classes)
    if found is None:
        raise DistillationError(f'point {point} compares vectors that are no scores of classes.')
    return found[1]


def main(argv: Sequence[str] | None = None) -> None:
    """Draws and writes the picture."""
    args = parse_args(argv)
    cfg = command_config(args.config, args.cfg_options)
    try:
        model = build_trained(cfg, args.config, args.device, args.trust)
        args.point = find_point(model, args.point)
        meta = load_weights(model, args.checkpoint)
        figure = draw(cfg, model, (meta.get('dataset_meta') or {}).get('classes'), args)
    except DistillationError as error:
        raise SystemExit(f'{type(error).__name__}: {error}') from error
    save(figure, args.out)
    what = 'γ of all levels' if args.noise_weight else f'level {args.level}'
    print(f'{args.out}: point {args.point}, {what}')


if __name__ == '__main__':
    main()
