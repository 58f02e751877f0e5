"""How far a student's features are from its teacher's, before and after the connector.

    python tools/analysis_tools/feature_gap.py CONFIG CHECKPOINT... [--images N] [--out FOLDER]

CHECKPOINT is one of a distillation, with its connectors, or a work dir: all of its iter_*.pth or
epoch_*.pth, in the order of the training (default_hooks.checkpoint.max_keep_ckpts=-1 keeps all).
Measured over images of the config's val_dataloader, at every stage of every level:

- relative_mse, snr_db: the squared difference over the teacher's square, and the same in dB with
  the teacher as signal; cosine: of the channels at a position. Of features of equal width only.
- cka: linear centred kernel alignment, and fitted_snr_db: the ratio that is left after the best
  linear map to the teacher. Neither minds another basis, nor another width.
- frequency_...: the mean spatial frequency of the energy of teacher, difference and what the best
  linear map leaves, 1 being that of white noise; the picture has the spectra.

The stages of a DiffKD connector are student (the tap), projected, noised (what the denoiser starts
from), denoised, and refined (behind the output projection: what the loss compares); of another
connector student and refined. The connector runs on the statistics of the batch, as in training.

Writes gap.md, gap.csv, spectra.csv and gap.png.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from mmengine.config import DictAction

from diffkd_mm.analysis.feature_gap import gap_rows, measure_gaps, spectrum_rows
from diffkd_mm.analysis.gap_picture import draw_gaps
from diffkd_mm.analysis.trained import Batches, build_trained, find_checkpoints, load_weights
from diffkd_mm.errors import DistillationError
from diffkd_mm.launch import command_config
from diffkd_mm.progress import Progress, print_now
from diffkd_mm.tabular import markdown, write_csv


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', type=Path, help='config of a distillation')
    parser.add_argument('checkpoints', nargs='+', type=Path, help='checkpoints, or work dirs')
    parser.add_argument('--point', help='distillation point; default: all')
    parser.add_argument(
        '--images', type=int, default=200, help='images to measure on; default: 200'
    )
    parser.add_argument(
        '--batch-size', type=int, help="images of a batch; default: the val_dataloader's"
    )
    parser.add_argument(
        '--split', choices=['train', 'val', 'test'], default='val', help='default: val'
    )
    parser.add_argument(
        '--out',
        type=Path,
        default=Path('feature_gap'),
        help='folder to write; default: feature_gap',
    )
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument(
        '--trust', action='store_true', help='read checkpoints even if they could run code'
    )
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, help='override the config')
    args = parser.parse_args(argv)
    for option in ('images', 'batch_size'):
        if (value := getattr(args, option)) is not None and value < 1:
            parser.error(f'--{option.replace("_", "-")} {value}: it must be 1 or more.')
    return args


def measure(args: argparse.Namespace) -> list[tuple]:
    """Measures every checkpoint: name, iteration and gaps of each."""
    cfg = command_config(args.config, args.cfg_options)
    checkpoints = find_checkpoints(args.checkpoints)
    model = build_trained(cfg, str(args.config), args.device, args.trust)
    stems = [path.stem for path in checkpoints]
    data = Batches(cfg, args.split, args.images, args.batch_size)
    progress = Progress(len(checkpoints) * len(data), 'batches measured', print_now)
    training = []
    for path in checkpoints:
        meta = load_weights(model, path)
        torch.manual_seed(0)  # the same noise for all
        gaps = measure_gaps(model, progress.over(data), args.point)
        if not gaps:
            raise DistillationError(f'the {args.split}_dataloader gives no image.')
        name = path.stem if stems.count(path.stem) == 1 else str(path)
        training.append((name, meta.get('iter'), gaps))
        print_now(f'{path}: measured ({len(training)} of {len(checkpoints)})')
    return training


def table(rows: list[dict]) -> str:
    """The rows in Markdown; a dash for what does not exist between different widths."""
    cells = [
        [f'{x:.3f}' if isinstance(x, float) else '–' if x is None else str(x) for x in row.values()]
        for row in rows
    ]
    return markdown([key.replace('_', ' ') for key in rows[0]], cells)


def main(argv: Sequence[str] | None = None) -> None:
    """Measures, prints the table and writes the files."""
    args = parse_args(argv)
    try:
        training = measure(args)
    except DistillationError as error:
        raise SystemExit(f'{type(error).__name__}: {error}') from error
    rows = [row for checkpoint in training for row in gap_rows(*checkpoint)]
    write_csv(args.out / 'gap.csv', rows)
    write_csv(
        args.out / 'spectra.csv',
        [row for name, _, gaps in training for row in spectrum_rows(name, gaps)],
    )
    text = table(rows)
    (args.out / 'gap.md').write_text(text)
    draw_gaps(training, args.out / 'gap.png')
    print(f'\n{text}')
    if any(row['relative_mse'] is None for row in rows):
        print('Dashes: student and teacher have different widths there, which have no difference.')
    print(f'Written to {args.out}: gap.md, gap.csv, spectra.csv, gap.png')


if __name__ == '__main__':
    main()
