_base_ = './retinanet_digits_fitnet.py'

model = dict(
    points=dict(
        fpn=dict(connector=None, loss=dict(_delete_=True, type='PKDLoss', loss_weight=50.0)),
    ),
)
