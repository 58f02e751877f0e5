"""DIST (Huang et al. 2022) on ImageNet. The weight is that of its authors' ``resnet_dist.yaml`` and
``dist_b2.yaml``."""

dist_points = dict(
    logits=dict(
        student='head.fc',
        teacher='head.fc',
        loss=dict(type='DISTLoss', loss_weight=2.0),
    ),
)
