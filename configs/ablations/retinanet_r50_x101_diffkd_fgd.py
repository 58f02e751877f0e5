"""DiffKD and FGD together, each as in its own config; neck and head are not inherited."""

_base_ = '../retinanet_r50_x101_diffkd.py'

model = dict(
    points=dict(
        fgd=dict(
            student='neck',
            teacher='neck',
            loss=dict(type='FGDLoss', channels=256, attention_weight=5e-4),
        ),
    ),
)
