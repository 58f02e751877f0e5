"""WRN-40-1 of the CRD benchmark for CIFAR-100: 569,780 parameters."""

_base_ = '../cifar_classifier.py'

model = dict(
    backbone=dict(type='diffkd_mm.CIFARWideResNet', depth=40, widen_factor=1),
    head=dict(in_channels=64),
)
