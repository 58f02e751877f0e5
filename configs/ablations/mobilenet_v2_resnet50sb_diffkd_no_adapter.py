"""Table 11: no adaptive noise matching, so no noise."""

_base_ = '../classification/mobilenet_v2_resnet50sb_diffkd.py'

without = dict(connector=dict(noise_adapter=None))
model = dict(points=dict(feature=without, logits=without))
