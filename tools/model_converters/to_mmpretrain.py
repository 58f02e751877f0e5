"""Converts a checkpoint of a classifier to MMPretrain's names.

It knows the networks of the CRD benchmark for CIFAR-100, ResNets of torchvision and timm,
torchvision's MobileNetV2, and MobileNetV1 of timm or as one ``Sequential``; which one a file holds,
it sees from the names and shapes. The result computes the same function and loads strictly into an
``ImageClassifier`` with ``GlobalAveragePooling``, ``LinearClsHead`` and the backbone that is
printed. timm's ``resnetaa50`` and ``resnetblur50`` have the names and shapes of ResNet-50, pass for
it and compute something else: take no file of theirs. A teacher needs no conversion: distillation
does it when it loads the original file.
"""

from diffkd_mm.checkpoints import convert_classifier
from diffkd_mm.checkpoints.command import convert_file


def main(argv: list[str] | None = None) -> None:
    """Converts and says what the checkpoint is."""
    fields = ('network', 'backbone', 'num_classes')
    converted, out = convert_file(argv, 'to_mmpretrain', __doc__, convert_classifier, fields)
    print(
        f'{out}: {converted.network}, {converted.num_classes} classes, '
        f'{len(converted.state_dict)} tensors'
    )
    options = ', '.join(f'{k}={v!r}' for k, v in converted.backbone.items())
    print(f'backbone=dict({options})')


if __name__ == '__main__':
    main()
