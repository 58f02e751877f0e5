"""The baseline "Average": the mean of the branches is compared, 75.01 in the slides."""

_base_ = './shufflenet_v1_resnet32x4_single.py'

model = dict(points=dict(last=dict(chain=dict(_delete_=True, type='AverageChain'))))
