"""KD (Hinton et al. 2015), pixel by pixel. Temperature and weight are ours."""

_base_ = '../deeplabv3_r18_r101_diffkd.py'

model = dict(
    points=dict(
        _delete_=True,
        logits=dict(**_base_.taps, loss=dict(type='KLDivLoss', tau=1.0, loss_weight=1.0)),
    ),
)
