"""The baseline "Average": the mean of the branches is compared, 75.46 in the slides."""

_base_ = './shufflenet_v2_resnet32x4_single.py'

model = dict(points=dict(last=dict(chain=dict(_delete_=True, type='AverageChain'))))
