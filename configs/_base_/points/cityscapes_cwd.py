"""CWD (Shu et al. 2021) on the logits, with temperature and weight of its authors' code."""

cwd_points = dict(
    logits=dict(
        student='decode_head.conv_seg',
        teacher='decode_head.conv_seg',
        loss=dict(type='CWDLoss', tau=4.0, loss_weight=3.0),
    ),
)
