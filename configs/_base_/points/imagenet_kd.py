"""KD (Hinton et al. 2015) on ImageNet.

The temperature and both weights, of KD and of the labels, are those of ``resnet_kdt4.yaml`` by
DIST's authors; it is for B1, and there is none for B2 and B3.
"""

kd_points = dict(
    logits=dict(
        student='head.fc',
        teacher='head.fc',
        loss=dict(type='KLDivLoss', tau=4.0, loss_weight=1.0),
    ),
)
labels_weight = 0.9
