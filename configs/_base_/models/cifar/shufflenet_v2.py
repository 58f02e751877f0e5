"""ShuffleNetV2 of the CRD benchmark for CIFAR-100: 1,355,528 parameters."""

_base_ = '../cifar_classifier.py'

model = dict(
    backbone=dict(type='diffkd_mm.CIFARShuffleNetV2'),
    head=dict(in_channels=1024),
)
