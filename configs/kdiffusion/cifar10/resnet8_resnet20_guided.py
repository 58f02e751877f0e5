"""One layer with target guidance by the teacher's classifier."""

_base_ = './resnet8_resnet20_single.py'

model = dict(points=dict(last=dict(guidance='head.fc')))
