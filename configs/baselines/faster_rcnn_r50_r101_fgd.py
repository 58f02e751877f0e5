"""FGD on P2 to P5. All but the backbone starts as the teacher's, as in its authors' config."""

_base_ = ['../faster_rcnn_r50_r101_diffkd.py', '../_base_/points/fpn_fgd.py']

model = dict(
    inherit=['neck', 'rpn_head', 'roi_head'],
    points=dict(
        _delete_=True, fpn=dict(**_base_.neck, strides=[4, 8, 16, 32], loss=_base_.fgd_two_stage)
    ),
)

# As in the authors' config.
optim_wrapper = dict(clip_grad=dict(max_norm=35, norm_type=2))
