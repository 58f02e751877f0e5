"""MasKD (Huang et al. 2023) on both heads' logits, weighted as in its authors' segmentation code.

The tokens learn beside the student (see ``MasKDLoss``) with the authors' learning rate of 0.1 and
weight decay of 1e-3: multiples of the students' 0.02 and 5e-4.
"""

maskd_logits = dict(
    student='decode_head.conv_seg',
    teacher='decode_head.conv_seg',
    loss=dict(type='MasKDLoss', channels=19),
)
maskd_auxiliary = dict(
    student='auxiliary_head.conv_seg',
    teacher='auxiliary_head.conv_seg',
    loss=dict(type='MasKDLoss', channels=19, loss_weight=0.4),
)
maskd_tokens = dict(custom_keys={'loss.tokens': dict(lr_mult=5.0, decay_mult=2.0)})
