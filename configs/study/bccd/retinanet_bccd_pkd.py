"""PKD behind FitNet's conv, as the channels differ. Its point has its own name for its grid."""

_base_ = './retinanet_bccd_fitnet.py'

pkd = dict(_base_.model.points.fpn, loss=dict(type='PKDLoss', loss_weight=30.0))
model = dict(points=dict(_delete_=True, pkd=pkd))
