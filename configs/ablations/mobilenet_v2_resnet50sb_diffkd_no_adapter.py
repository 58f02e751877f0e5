"""Table 11: no adaptive noise matching, so no noise."""

_base_ = '../classification/mobilenet_v2_resnet50sb_diffkd.py'

model = dict(points=dict.fromkeys(('feature', 'logits'), dict(connector=dict(noise_adapter=None))))
