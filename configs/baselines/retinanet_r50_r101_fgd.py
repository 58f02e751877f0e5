"""FGD. Neck and head start as the teacher's, as in its authors' config."""

_base_ = ['../retinanet_r50_r101_diffkd.py', '../_base_/points/fpn_fgd.py']

model = dict(
    inherit=['neck', 'bbox_head'],
    points=dict(_delete_=True, fpn=dict(**_base_.neck, loss=_base_.fgd_anchors)),
)
