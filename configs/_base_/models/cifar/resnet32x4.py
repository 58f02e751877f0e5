"""ResNet-32x4 of the CRD benchmark for CIFAR-100: 7,433,860 parameters."""

_base_ = '../cifar_classifier.py'

model = dict(
    backbone=dict(type='diffkd_mm.CIFARResNet', depth=32, stem_channels=32, base_channels=64),
    head=dict(in_channels=256),
)
