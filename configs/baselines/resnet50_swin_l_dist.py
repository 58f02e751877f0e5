"""Table 3: DIST, 80.2 top-1."""

_base_ = ['../classification/resnet50_swin_l_diffkd.py', '../_base_/points/imagenet_dist.py']

model = dict(points=dict(_delete_=True, **_base_.dist_points))
