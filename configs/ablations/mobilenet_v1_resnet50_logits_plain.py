"""Table 7, KL div.: the logits alone, without a denoiser."""

_base_ = './mobilenet_v1_resnet50_logits_diffkd.py'

model = dict(points=dict(logits=dict(connector=None)))
