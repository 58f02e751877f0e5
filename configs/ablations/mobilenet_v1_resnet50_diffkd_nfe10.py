"""Figure 4: 10 score evaluations."""

_base_ = '../classification/mobilenet_v1_resnet50_diffkd.py'

steps = dict(connector=dict(num_inference_steps=10))
model = dict(points=dict(feature=steps, logits=steps))
