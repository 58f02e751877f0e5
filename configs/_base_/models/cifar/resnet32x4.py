"""ResNet-32x4 of the CRD benchmark for CIFAR-100: 7,433,860 parameters."""

model = dict(
    type='ImageClassifier',
    backbone=dict(type='diffkd_mm.CIFARResNet', depth=32, stem_channels=32, base_channels=64),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=100,
        in_channels=256,
        loss=dict(type='CrossEntropyLoss', loss_weight=1.0),
    ),
)
