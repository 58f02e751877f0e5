_base_ = ['./mobilenet_v2.py', '../_base_/points/cifar100.py']

model = dict(
    _delete_=True,
    type='diffkd_mm.Distiller',
    student=_base_.model,
    teacher=dict(
        config='{{fileDirname}}/resnet50.py',
        checkpoint='checkpoints/ResNet50_vanilla/ckpt_epoch_240.pth',
    ),
    points=dict(
        feature=dict(
            **_base_.feature,
            resize=True,  # the student's map is the smaller one
            connector=dict(type='DiffKDConnector', student_channels=1280, teacher_channels=2048),
        ),
        logits=_base_.logits,
    ),
)
