"""FGD (Yang et al. 2022): the weights of its authors' configs for the three kinds of detectors.

Those of RetinaNet halve the weight of the attention that their paper gives.
"""

neck = dict(student='neck', teacher='neck')
fgd_two_stage = dict(
    type='FGDLoss',
    channels=256,
    foreground_weight=5e-5,
    background_weight=2.5e-5,
    attention_weight=5e-5,
    global_weight=5e-7,
)
fgd_anchors = dict(type='FGDLoss', channels=256, attention_weight=5e-4)
fgd_anchor_free = dict(
    type='FGDLoss',
    channels=256,
    foreground_weight=1.6e-3,
    background_weight=8e-4,
    attention_weight=8e-4,
    global_weight=8e-6,
)
