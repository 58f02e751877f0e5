"""Converts a checkpoint of a classifier to MMPretrain's names.

It knows the networks of the CRD benchmark for CIFAR-100, ResNets of torchvision and timm,
torchvision's MobileNetV2, and MobileNetV1 as one ``Sequential``; which one a file holds, it sees
from the names and shapes. The result computes the same function and loads strictly into an
``ImageClassifier`` with ``GlobalAveragePooling``, ``LinearClsHead`` and the backbone that is
printed. A teacher needs no conversion: distillation does it when it loads the original file.
"""

import argparse
from pathlib import Path

import torch

from diffkd_mm.checkpoints import convert_classifier
from diffkd_mm.distillers.teacher import model_weights, read_checkpoint_file
from diffkd_mm.errors import DistillationError


def main(args: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('checkpoint', help='path or URL of the checkpoint')
    parser.add_argument('out', type=Path, help='file to write')
    parser.add_argument(
        '--trust', action='store_true', help='read the checkpoint even if it could run code'
    )
    args = parser.parse_args(args)
    try:
        loaded = read_checkpoint_file(args.checkpoint, trust=args.trust)
        converted = convert_classifier(model_weights(loaded, args.checkpoint), args.checkpoint)
    except DistillationError as error:
        raise SystemExit(f'to_mmpretrain: {error}') from error
    meta = dict(
        network=converted.network,
        backbone=converted.backbone,
        num_classes=converted.num_classes,
        converted_from=Path(args.checkpoint).name,
    )
    args.out.parent.mkdir(parents=True, exist_ok=True)
    torch.save(dict(meta=meta, state_dict=converted.state_dict), args.out)
    print(
        f'{args.out}: {converted.network}, {converted.num_classes} classes, '
        f'{len(converted.state_dict)} tensors'
    )
    options = ', '.join(f'{k}={v!r}' for k, v in converted.backbone.items())
    print(f'backbone=dict({options})')


if __name__ == '__main__':
    main()
