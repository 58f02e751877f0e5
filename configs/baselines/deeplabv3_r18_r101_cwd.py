"""CWD (Shu et al. 2021) on the logits, with temperature and weight of its authors' code."""

_base_ = '../deeplabv3_r18_r101_diffkd.py'

model = dict(
    points=dict(
        _delete_=True,
        logits=dict(**_base_.taps, loss=dict(type='CWDLoss', tau=4.0, loss_weight=3.0)),
    ),
)
