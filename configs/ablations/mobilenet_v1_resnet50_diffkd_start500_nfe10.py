"""Figure 4 with the start of appendix B.1 to the letter: 10 score evaluations from t = 500."""

_base_ = './mobilenet_v1_resnet50_diffkd_start500.py'

model = dict(
    points=dict.fromkeys(('feature', 'logits'), dict(connector=dict(num_inference_steps=10)))
)
