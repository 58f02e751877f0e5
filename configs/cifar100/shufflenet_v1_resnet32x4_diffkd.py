_base_ = './shufflenet_v1.py'

model = dict(
    _delete_=True,
    type='diffkd_mm.Distiller',
    student=_base_.model,
    teacher=dict(
        config='{{fileDirname}}/resnet32x4.py',
        checkpoint='checkpoints/resnet32x4_vanilla/ckpt_epoch_240.pth',
    ),
    points=dict(
        feature=dict(
            student='backbone',
            teacher='backbone',
            resize=True,  # the student's map is the smaller one
            connector=dict(type='DiffKDConnector', student_channels=960, teacher_channels=256),
            loss=dict(type='MSELoss', loss_weight=1.0),
        ),
        logits=dict(
            student='head.fc',
            teacher='head.fc',
            connector=dict(
                type='DiffKDConnector',
                student_channels=100,
                teacher_channels=100,
                denoiser=dict(type='VectorDenoiser'),
                noise_adapter=dict(type='VectorNoiseAdapter'),
            ),
            loss=dict(type='KLDivLoss', tau=1.0, loss_weight=1.0),
        ),
    ),
)
