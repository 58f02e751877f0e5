"""KD (Hinton et al. 2015). The temperature and both weights, of KD and of the labels, are those of
the CRD benchmark."""

kd_points = dict(
    logits=dict(
        student='head.fc',
        teacher='head.fc',
        loss=dict(type='KLDivLoss', tau=4.0, loss_weight=0.9),
    ),
)
labels_weight = 0.1
