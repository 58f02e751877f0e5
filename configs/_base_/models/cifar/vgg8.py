"""VGG-8 of the CRD benchmark for CIFAR-100: 3,965,028 parameters."""

_base_ = './classifier.py'

model = dict(
    backbone=dict(type='diffkd_mm.CIFARVGG', depth=8),
    head=dict(in_channels=512),
)
