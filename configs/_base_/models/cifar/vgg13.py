"""VGG-13 of the CRD benchmark for CIFAR-100: 9,462,180 parameters."""

_base_ = '../cifar_classifier.py'

model = dict(
    backbone=dict(type='diffkd_mm.CIFARVGG', depth=13),
    head=dict(in_channels=512),
)
