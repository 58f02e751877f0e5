"""VGG-8 of the CRD benchmark for CIFAR-100: 3,965,028 parameters."""

model = dict(
    type='ImageClassifier',
    backbone=dict(type='diffkd_mm.CIFARVGG', depth=8),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=100,
        in_channels=512,
        loss=dict(type='CrossEntropyLoss', loss_weight=1.0),
    ),
)
