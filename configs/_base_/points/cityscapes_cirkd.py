"""CIRKD (Yang et al. 2022) with the values of its authors' code: relations of pixels, and KD."""

cirkd_points = dict(
    logits=dict(
        student='decode_head.conv_seg',
        teacher='decode_head.conv_seg',
        loss=dict(type='KLDivLoss', tau=1.0, loss_weight=1.0),
    ),
    embedding=dict(
        student='decode_head.dropout',  # the classifier's input
        teacher='decode_head.dropout',
        loss=dict(type='CIRKDLoss', student_channels=128, teacher_channels=256, num_classes=19),
    ),
)
