"""ResNet-20 of the CRD benchmark for CIFAR-100: 278,324 parameters."""

model = dict(
    type='ImageClassifier',
    backbone=dict(type='diffkd_mm.CIFARResNet', depth=20),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=100,
        in_channels=64,
        loss=dict(type='CrossEntropyLoss', loss_weight=1.0),
    ),
)
