"""Writes the student of a training checkpoint as a small file of weights.

    python tools/model_converters/export_student.py epoch_24.pth student.pth

writes student-1a2b3c4d.pth, where 1a2b3c4d begins the file's SHA-256 (--keep-name: student.pth).
Optimizer, logs, averaged copies and distillation modules are left out, layers in branches
(KDiffusion) folded into one; the result loads into the plain student config, here or in stock
OpenMMLab tools, and with ``torch.load(weights_only=True)``.
It carries the names of the classes and the student's config, so that stock inferencers need no
other file. Before it is written its tensors are loaded, strictly, into the student that the
checkpoint's config describes or --config, and three lines are printed that use it.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from diffkd_mm.checkpoints.publishing import check_fits, lines_of_use, publish
from diffkd_mm.checkpoints.reading import model_weights, read_checkpoint_file
from diffkd_mm.checkpoints.student_config import student_config
from diffkd_mm.configs import load_config
from diffkd_mm.errors import DistillationError
from diffkd_mm.reparam import fold_state_dict


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('checkpoint', type=Path, help='checkpoint of a training')
    parser.add_argument('out', type=Path, help='file to write; its name gets the hash')
    parser.add_argument('--keep-name', action='store_true', help='write to this very name')
    parser.add_argument(
        '--config', help="config that is to have the weights, the student's or the distillation's"
    )
    parser.add_argument(
        '--trust', action='store_true', help='read the checkpoint even if it could run code'
    )
    return parser.parse_args(argv)


def export(args: argparse.Namespace) -> None:
    """Reads, checks, writes and says what was written."""
    checkpoint = read_checkpoint_file(str(args.checkpoint), trust=args.trust)
    weights = fold_state_dict(model_weights(checkpoint, str(args.checkpoint)))
    given = load_config(args.config, '--config') if args.config else None
    # The names of the classes, which stock inference tools look for.
    meta = {k: v for k, v in checkpoint.get('meta', {}).items() if k == 'dataset_meta'}
    source = checkpoint if given is None else dict(meta=dict(cfg=given.pretty_text))
    if cfg := student_config(source):
        meta['cfg'] = cfg.pretty_text
    verified = 'not verified: the checkpoint carries no config that can be read; give --config'
    if cfg is not None:
        try:
            kind = check_fits(weights, cfg, trusted=given is not None)
            verified = f'verified: it fits the {kind} of {args.config or "its config"}, strictly'
        except LookupError as error:
            verified = f'not verified: {error.args[0]}; give --config'
    tensors = {name: x.contiguous().clone() for name, x in weights.items()}
    path, digest = publish(dict(meta=meta, state_dict=tensors), args.out, args.keep_name)
    print(f'{path}: {len(tensors)} tensors, {path.stat().st_size / 1e6:.2f} MB, sha256 {digest}')
    print(verified)
    if not meta.get('dataset_meta'):
        print('the checkpoint names no classes: inferencers will number them')
    if cfg is not None and (lines := lines_of_use(cfg.get('default_scope'), path)):
        print('use it:', *(f'    {line}' for line in lines), sep='\n')


def main(argv: Sequence[str] | None = None) -> None:
    try:
        export(parse_args(argv))
    except DistillationError as error:
        raise SystemExit(f'export_student.py: {error}') from error


if __name__ == '__main__':
    main()
