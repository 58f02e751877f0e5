"""The baseline "Average": the mean of the branches is compared, on both levels."""

_base_ = './retinanet_digits_multi.py'

chain = dict(_delete_=True, type='AverageChain')
model = dict(points=dict(p3=dict(chain=chain), p4=dict(chain=chain)))
