"""MobileNetV2 of half width of the CRD benchmark for CIFAR-100: 812,836 parameters."""

_base_ = '../cifar_classifier.py'

model = dict(
    backbone=dict(type='diffkd_mm.CIFARMobileNetV2'),
    head=dict(in_channels=1280),
)
