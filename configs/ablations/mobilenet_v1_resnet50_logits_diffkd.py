"""Table 7: the logits alone, with DiffKD."""

_base_ = '../classification/mobilenet_v1_resnet50_diffkd.py'

model = dict(points=dict(_delete_=True, logits=_base_.model.points.logits))
