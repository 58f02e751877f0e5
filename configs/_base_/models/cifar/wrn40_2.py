"""WRN-40-2 of the CRD benchmark for CIFAR-100: 2,255,156 parameters."""

_base_ = '../cifar_classifier.py'

model = dict(
    backbone=dict(type='diffkd_mm.CIFARWideResNet', depth=40, widen_factor=2),
    head=dict(in_channels=128),
)
