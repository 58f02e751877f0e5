"""FGD. Neck and head start as the teacher's, as far as it has their tensors.

As in its authors' config, the student is the one with centre sampling, normalised boxes and GIoU.
"""

_base_ = ['../fcos_r50_r101_diffkd.py', '../_base_/points/fpn_fgd.py']

model = dict(
    inherit=['neck', 'bbox_head'],
    points=dict(_delete_=True, fpn=dict(**_base_.neck, loss=dict(_base_.fgd_anchor_free, tau=0.8))),
)
