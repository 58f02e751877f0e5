"""Table 3: DIST, 74.4 top-1."""

_base_ = [
    '../classification/mobilenet_v2_resnet50sb_diffkd.py',
    '../_base_/points/imagenet_dist.py',
]

model = dict(points=dict(_delete_=True, **_base_.dist_points))
