"""The student of `retinanet_r50_{r101,x101}_diffkd.py` alone.

The zoo's with clipped gradients and a longer warm-up.
"""

_base_ = 'mmdet::retinanet/retinanet_r50_fpn_2x_coco.py'

optim_wrapper = dict(clip_grad=dict(max_norm=35, norm_type=2))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=1000),
    dict(type='MultiStepLR', begin=0, end=24, by_epoch=True, milestones=[16, 22], gamma=0.1),
]
