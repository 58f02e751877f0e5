"""Table 2, †: DIST in place of the KL divergence, 72.49 top-1. Its weight is ours."""

_base_ = './resnet18_resnet34_diffkd.py'

model = dict(points=dict(logits=dict(loss=dict(type='DISTLoss'))))
