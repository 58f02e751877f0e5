"""Converts a checkpoint of CIRKD, network or ImageNet backbone, to MMSegmentation's names.

The result computes the same function and loads strictly into a model of ``configs/_base_/models``:
a network into the whole model, a backbone into ``model.backbone``, whose names it has without a
prefix, as ``init_cfg=dict(type='Pretrained', checkpoint=...)`` of the backbone expects them.
"""

from diffkd_mm.checkpoints import convert_cirkd
from diffkd_mm.checkpoints.command import convert_file


def main(argv: list[str] | None = None) -> None:
    """Converts and says what the checkpoint is."""
    fields = ('network', 'num_classes')
    converted, out = convert_file(argv, 'cirkd2mmseg', __doc__, convert_cirkd, fields)
    kind = f'{converted.num_classes} classes' if converted.num_classes else 'a backbone'
    print(f'{out}: {converted.network}, {kind}, {len(converted.state_dict)} tensors')
    if converted.dropped:
        print(f'Dropped, since our network has no such layers: {", ".join(converted.dropped)}')


if __name__ == '__main__':
    main()
