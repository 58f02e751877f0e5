"""Figure 4: 3 score evaluations."""

_base_ = '../classification/mobilenet_v1_resnet50_diffkd.py'

model = dict(
    points=dict.fromkeys(('feature', 'logits'), dict(connector=dict(num_inference_steps=3)))
)
