"""What is distilled in a segmentor for Cityscapes: the logits before they are upsampled."""

taps = dict(student='decode_head.conv_seg', teacher='decode_head.conv_seg')
logits = dict(
    **taps,
    connector=dict(type='DiffKDConnector', student_channels=19, teacher_channels=19),
    loss=dict(type='DISTLoss', loss_weight=1.0),
)
