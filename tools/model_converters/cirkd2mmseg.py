"""Converts a checkpoint of CIRKD, network or ImageNet backbone, to MMSegmentation's names.

The result computes the same function and loads strictly into a model of ``configs/_base_/models``:
a network into the whole model, a backbone into ``model.backbone``, whose names it has without a
prefix, as ``init_cfg=dict(type='Pretrained', checkpoint=...)`` of the backbone expects them.
"""

import argparse
from pathlib import Path

import torch

from diffkd_mm.checkpoints import convert_cirkd
from diffkd_mm.distillers.teacher import model_weights, read_checkpoint_file
from diffkd_mm.errors import DistillationError


def main(args: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('checkpoint', help='path or URL of a checkpoint of CIRKD')
    parser.add_argument('out', type=Path, help='file to write')
    parser.add_argument(
        '--trust', action='store_true', help='read the checkpoint even if it could run code'
    )
    args = parser.parse_args(args)
    try:
        loaded = read_checkpoint_file(args.checkpoint, trust=args.trust)
        converted = convert_cirkd(model_weights(loaded, args.checkpoint), args.checkpoint)
    except DistillationError as error:
        raise SystemExit(f'cirkd2mmseg: {error}') from error
    meta = dict(
        network=converted.network,
        num_classes=converted.num_classes,
        converted_from=Path(args.checkpoint).name,
    )
    args.out.parent.mkdir(parents=True, exist_ok=True)
    torch.save(dict(meta=meta, state_dict=converted.state_dict), args.out)
    kind = f'{converted.num_classes} classes' if converted.num_classes else 'a backbone'
    print(f'{args.out}: {converted.network}, {kind}, {len(converted.state_dict)} tensors')
    if converted.dropped:
        print(f'Dropped, since our network has no such layers: {", ".join(converted.dropped)}')


if __name__ == '__main__':
    main()
