_base_ = './resnet8_resnet56_diffkd.py'

model = dict(
    points=dict(
        _delete_=True,
        logits=dict(
            student='head.fc', teacher='head.fc', loss=dict(type='DISTLoss', loss_weight=1.0)
        ),
    ),
)
