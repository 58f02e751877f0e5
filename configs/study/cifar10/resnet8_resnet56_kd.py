_base_ = './resnet8_resnet56_diffkd.py'

model = dict(
    points=dict(
        _delete_=True,
        logits=dict(
            student='head.fc',
            teacher='head.fc',
            loss=dict(type='KLDivLoss', tau=4.0, loss_weight=0.4),
        ),
    ),
)
