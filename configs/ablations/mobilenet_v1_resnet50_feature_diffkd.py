"""Table 7: the map before pooling alone, with DiffKD."""

_base_ = '../classification/mobilenet_v1_resnet50_diffkd.py'

model = dict(points=dict(_delete_=True, feature=_base_.model.points.feature))
