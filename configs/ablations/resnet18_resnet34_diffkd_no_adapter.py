"""Table 11: no adaptive noise matching, so no noise."""

_base_ = '../classification/resnet18_resnet34_diffkd.py'

model = dict(points=dict.fromkeys(('feature', 'logits'), dict(connector=dict(noise_adapter=None))))
