"""MobileNetV2 of half width of the CRD benchmark for CIFAR-100: 812,836 parameters."""

model = dict(
    type='ImageClassifier',
    backbone=dict(type='diffkd_mm.CIFARMobileNetV2'),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=100,
        in_channels=1280,
        loss=dict(type='CrossEntropyLoss', loss_weight=1.0),
    ),
)
