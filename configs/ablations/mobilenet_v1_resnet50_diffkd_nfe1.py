"""Figure 4: 1 score evaluation."""

_base_ = '../classification/mobilenet_v1_resnet50_diffkd.py'

steps = dict(connector=dict(num_inference_steps=1))
model = dict(points=dict(feature=steps, logits=steps))
