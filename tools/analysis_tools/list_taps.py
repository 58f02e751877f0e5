"""The modules of a config's models that can be tapped: channels, strides and shapes.

    python tools/analysis_tools/list_taps.py CONFIG [--depth N]

CONFIG is a distillation's, of which student and teacher are listed, or a plain one of MMDetection,
MMSegmentation or MMPretrain. Marked and listed first are backbone, neck and the layers of heads
that nothing but a prediction is made of; the others come in the order in which they run. A module
that is called once per level has an entry for each. Taps in a ``roi_head`` need ``regions``.

Weights are random, the image is blank, and nothing is downloaded.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from mmengine.config import DictAction
from mmengine.registry import init_default_scope
from rich.console import Console

from diffkd_mm.analysis.models import build_each_model
from diffkd_mm.analysis.tables import tabulate_outputs
from diffkd_mm.errors import DistillationError
from diffkd_mm.launch import command_config
from diffkd_mm.taps import list_outputs


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', type=Path, help='config file')
    parser.add_argument(
        '--depth', type=int, default=3, help='names in a path of those that are not marked; 3'
    )
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, help='override the config')
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Builds the models, runs each once and prints a table for each."""
    args = parse_args(argv)
    cfg = command_config(args.config, args.cfg_options)
    init_default_scope(cfg.get('default_scope', 'mmengine'))
    console = Console(soft_wrap=True)
    try:
        for name, model in build_each_model(cfg).items():
            outputs = list_outputs(model)
            size = outputs[0].image_size
            console.print(f'{name}: {type(model).__name__}, an image of {size}×{size}')
            console.print(tabulate_outputs(outputs, args.depth))
    except DistillationError as error:
        raise SystemExit(f'list_taps.py: {error}') from error


if __name__ == '__main__':
    main()
