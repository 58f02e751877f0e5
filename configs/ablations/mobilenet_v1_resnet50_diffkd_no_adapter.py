"""Table 11: no adaptive noise matching, so no noise."""

_base_ = '../classification/mobilenet_v1_resnet50_diffkd.py'

without = dict(connector=dict(noise_adapter=None))
model = dict(points=dict(feature=without, logits=without))
