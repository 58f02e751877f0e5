"""ResNet-20 of the CRD benchmark for CIFAR-100: 278,324 parameters."""

_base_ = '../cifar_classifier.py'

model = dict(
    backbone=dict(type='diffkd_mm.CIFARResNet', depth=20),
    head=dict(in_channels=64),
)
