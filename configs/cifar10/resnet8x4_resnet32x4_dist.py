"""DIST (Huang et al. 2022). Temperature and weights are those of its authors on CIFAR-100."""

_base_ = './resnet8x4_resnet32x4_diffkd.py'

model = dict(
    points=dict(
        _delete_=True,
        logits=dict(
            student='head.fc',
            teacher='head.fc',
            loss=dict(type='DISTLoss', beta=2.0, gamma=2.0, tau=4.0),
        ),
    ),
)
