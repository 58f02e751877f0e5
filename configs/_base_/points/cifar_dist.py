"""DIST (Huang et al. 2022). Temperature and weights are those of its authors on CIFAR-100."""

dist_points = dict(
    logits=dict(
        student='head.fc',
        teacher='head.fc',
        loss=dict(type='DISTLoss', beta=2.0, gamma=2.0, tau=4.0),
    ),
)
