"""WRN-40-2 of the CRD benchmark for CIFAR-100: 2,255,156 parameters."""

model = dict(
    type='ImageClassifier',
    backbone=dict(type='diffkd_mm.CIFARWideResNet', depth=40, widen_factor=2),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=100,
        in_channels=128,
        loss=dict(type='CrossEntropyLoss', loss_weight=1.0),
    ),
)
