"""Table 3: DIST, 82.3 top-1."""

_base_ = ['../classification/swin_t_swin_l_diffkd.py', '../_base_/points/imagenet_dist.py']

model = dict(points=dict(_delete_=True, **_base_.dist_points))
