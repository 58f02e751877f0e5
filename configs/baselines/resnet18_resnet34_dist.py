"""Table 2: DIST, 72.07 top-1."""

_base_ = ['../classification/resnet18_resnet34_diffkd.py', '../_base_/points/imagenet_dist.py']

model = dict(points=dict(_delete_=True, **_base_.dist_points))
