"""Figure 4 with the start of appendix B.1 to the letter: 5 score evaluations from t = 500."""

_base_ = '../classification/mobilenet_v1_resnet50_diffkd.py'

model = dict(
    points=dict.fromkeys(('feature', 'logits'), dict(connector=dict(timestep_spacing='trailing')))
)
