"""Table 3: DIST, 77.8 top-1."""

_base_ = ['../classification/resnet34_resnet50sb_diffkd.py', '../_base_/points/imagenet_dist.py']

model = dict(points=dict(_delete_=True, **_base_.dist_points))
