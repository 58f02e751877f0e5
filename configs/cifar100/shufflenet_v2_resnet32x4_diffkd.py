_base_ = ['./shufflenet_v2.py', '../_base_/points/cifar100.py']

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
            **_base_.feature,
            resize=True,  # the student's map is the smaller one
            connector=dict(type='DiffKDConnector', student_channels=1024, teacher_channels=256),
        ),
        logits=_base_.logits,
    ),
)
