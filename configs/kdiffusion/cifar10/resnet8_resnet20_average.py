"""The baseline "Average": the mean of the branches is compared."""

_base_ = './resnet8_resnet20_single.py'

model = dict(points=dict(last=dict(chain=dict(_delete_=True, type='AverageChain'))))
