"""Table 11: no adaptive noise matching, so no noise."""

_base_ = '../classification/mobilenet_v1_resnet50_diffkd.py'

model = dict(points=dict.fromkeys(('feature', 'logits'), dict(connector=dict(noise_adapter=None))))
