"""FGD. Neck and head start as the teacher's, as in its authors' config."""

_base_ = ['../reppoints_r50_x101_diffkd.py', '../_base_/points/fpn_fgd.py']

model = dict(
    inherit=['neck', 'bbox_head'],
    points=dict(_delete_=True, fpn=dict(**_base_.neck, loss=_base_.fgd_anchor_free)),
)

# As in the authors' config.
optim_wrapper = dict(clip_grad=dict(max_norm=35, norm_type=2))
