"""The baseline "Average": the mean of the branches is compared, 66.45 in the slides."""

_base_ = './mobilenet_v2_vgg13_single.py'

model = dict(points=dict(last=dict(chain=dict(_delete_=True, type='AverageChain'))))
