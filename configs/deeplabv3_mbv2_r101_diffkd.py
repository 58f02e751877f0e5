_base_ = './cityscapes/deeplabv3_mbv2.py'

model = dict(
    _delete_=True,
    type='diffkd_mm.Distiller',
    student=_base_.model,
    teacher=dict(
        config='{{fileDirname}}/cityscapes/deeplabv3_r101.py',
        checkpoint='checkpoints/cirkd_deeplabv3_r101.pth',
    ),
    points=dict(
        logits=dict(
            student='decode_head.conv_seg',
            teacher='decode_head.conv_seg',
            connector=dict(type='DiffKDConnector', student_channels=19, teacher_channels=19),
            loss=dict(type='DISTLoss', loss_weight=1.0),
        ),
    ),
)
