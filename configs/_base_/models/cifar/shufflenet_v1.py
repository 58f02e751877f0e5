"""ShuffleNetV1 of the CRD benchmark for CIFAR-100: 949,258 parameters."""

_base_ = '../cifar_classifier.py'

model = dict(
    backbone=dict(type='diffkd_mm.CIFARShuffleNetV1'),
    head=dict(in_channels=960),
)
