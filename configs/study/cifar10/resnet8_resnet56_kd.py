"""KD at τ 4 beside the whole of the student's own loss. Its point has its own name for its grid."""

_base_ = './resnet8_resnet56_diffkd.py'

model = dict(
    points=dict(
        _delete_=True,
        kd=dict(
            student='head.fc',
            teacher='head.fc',
            loss=dict(type='KLDivLoss', tau=4.0, loss_weight=0.4),
        ),
    ),
)
