"""ResNet-56 of the CRD benchmark for CIFAR-100: 861,620 parameters."""

_base_ = '../cifar_classifier.py'

model = dict(
    backbone=dict(type='diffkd_mm.CIFARResNet', depth=56),
    head=dict(in_channels=64),
)
