"""Table 2: DIST, 73.24 top-1."""

_base_ = ['../classification/mobilenet_v1_resnet50_diffkd.py', '../_base_/points/imagenet_dist.py']

model = dict(points=dict(_delete_=True, **_base_.dist_points))
