"""Parameters and multiply-adds of student, teacher and distillation modules of a config.

    python tools/analysis_tools/get_flops.py CONFIG [--shape H W] [--json OUT]

CONFIG is a distillation's or a plain one of MMDetection, MMSegmentation or MMPretrain. Counted are
the multiply-adds (MACs) of convolutions and matrix products (linear layers, attention) for one
image, not those of biases, normalisation, activations, resizing, losses and post-processing:

- student and teacher whole, with their auxiliary heads; of a two-stage detector with random weights
  on the proposals it makes itself;
- per distillation point its connector, as a training step runs it, and of a DiffKD connector its
  parts: the denoiser is evaluated N times to refine the student and once for ``loss_diff``, on
  every level.

The last column counts as the paper does for its segmentation networks (Table 6): each
convolution's output is taken to be as large as if it were not dilated.

Weights are random, no image is read and nothing is downloaded. Shapes alone are computed where the
model allows it; others, such as two-stage detectors, run on the CPU.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from mmengine.config import DictAction
from mmengine.registry import init_default_scope
from rich.console import Console

from diffkd_mm.analysis.flops import SHAPES, count_config
from diffkd_mm.analysis.tables import tabulate_counts, write_json
from diffkd_mm.errors import DistillationError
from diffkd_mm.launch import command_config


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', type=Path, help='config file')
    parser.add_argument(
        '--shape',
        nargs=2,
        type=int,
        metavar=('H', 'W'),
        help='input size; 800 1216 for detectors, 1024 2048 for segmentors, 224 224 for '
        'classifiers by default',
    )
    parser.add_argument('--json', type=Path, help='write the counts, of one each, to this file')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, help='override the config')
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Counts, prints a table and writes the result."""
    args = parse_args(argv)
    cfg = command_config(args.config, args.cfg_options)
    scope = cfg.get('default_scope', 'mmengine')
    init_default_scope(scope)
    shape = args.shape or SHAPES.get(scope)
    if shape is None:
        raise SystemExit(f'the config has default_scope={scope!r}; give --shape H W.')
    try:
        counts = count_config(cfg, tuple(shape))
    except DistillationError as error:
        raise SystemExit(str(error)) from error
    console = Console()
    console.print(f'{args.config}, one image of {shape[0]}x{shape[1]}', soft_wrap=True)
    console.print(tabulate_counts(counts))
    if args.json:
        parts = {name: count._asdict() for name, count in counts.items()}
        write_json(dict(config=str(args.config), shape=list(shape), parts=parts), args.json)


if __name__ == '__main__':
    main()
