"""DiffKD's connectors, never taught to denoise and given no noise."""

_base_ = './resnet8_resnet56_diffkd.py'

projector = dict(loss_diff_weight=0, noise_adapter=None)
model = dict(
    points=dict(feature=dict(connector=projector), logits=dict(connector=projector)),
)
