"""KD (Hinton et al. 2015). Temperature and both weights are those of the CRD benchmark."""

_base_ = './shufflenet_v2_resnet32x4_diffkd.py'

model = dict(
    student=dict(head=dict(loss=dict(loss_weight=0.1))),
    points=dict(
        _delete_=True,
        logits=dict(
            student='head.fc',
            teacher='head.fc',
            loss=dict(type='KLDivLoss', tau=4.0, loss_weight=0.9),
        ),
    ),
)
