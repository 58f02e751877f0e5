"""Writes the student of a training checkpoint as a small file of weights.

Optimizer, logs, averaged copies and distillation modules are left out, layers in branches
(KDiffusion) folded into one; the result loads into the plain student config, here or in stock
OpenMMLab tools, and with ``torch.load(weights_only=True)``.
It carries the student's config, so that ``DetInferencer(weights=FILE)`` needs no other file.
"""

import argparse
import hashlib
from pathlib import Path

import torch

from diffkd_mm.checkpoints.reading import model_weights, read_checkpoint_file
from diffkd_mm.checkpoints.student_config import student_config
from diffkd_mm.errors import DistillationError
from diffkd_mm.reparam import fold_state_dict


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('checkpoint', type=Path, help='checkpoint of a training')
    parser.add_argument('out', type=Path, help='file to write')
    parser.add_argument(
        '--trust', action='store_true', help='read the checkpoint even if it could run code'
    )
    args = parser.parse_args()
    try:
        checkpoint = read_checkpoint_file(str(args.checkpoint), trust=args.trust)
        weights = fold_state_dict(model_weights(checkpoint, str(args.checkpoint)))
    except DistillationError as error:
        raise SystemExit(f'export_student.py: {error}') from error
    # The names of the classes, which stock inference tools look for.
    meta = {k: v for k, v in checkpoint.get('meta', {}).items() if k == 'dataset_meta'}
    if config := student_config(checkpoint):
        meta['cfg'] = config
    args.out.parent.mkdir(parents=True, exist_ok=True)
    torch.save(
        dict(meta=meta, state_dict={name: x.contiguous().clone() for name, x in weights.items()}),
        args.out,
    )
    digest = hashlib.sha256(args.out.read_bytes()).hexdigest()
    size = args.out.stat().st_size / 1e6
    print(f'{args.out}: {len(weights)} tensors, {size:.2f} MB, sha256 {digest[:8]}')


if __name__ == '__main__':
    main()
