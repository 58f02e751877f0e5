"""FGD on P2 to P5.

Its authors' cascade is another one (ResNeXt-101 32x4d with deformable convolutions), and nothing
of it is inherited.
"""

_base_ = ['../faster_rcnn_r50_cascade_x101_diffkd.py', '../_base_/points/fpn_fgd.py']

model = dict(
    points=dict(
        _delete_=True, fpn=dict(**_base_.neck, strides=[4, 8, 16, 32], loss=_base_.fgd_two_stage)
    ),
)

# As in the authors' config.
optim_wrapper = dict(clip_grad=dict(max_norm=35, norm_type=2))
