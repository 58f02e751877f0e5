_base_ = ['./wrn40_1.py', '../_base_/points/cifar100.py']

model = dict(
    _delete_=True,
    type='diffkd_mm.Distiller',
    student=_base_.model,
    teacher=dict(
        config='{{fileDirname}}/wrn40_2.py',
        checkpoint='checkpoints/wrn_40_2_vanilla/ckpt_epoch_240.pth',
    ),
    points=dict(
        feature=dict(
            **_base_.feature,
            connector=dict(type='DiffKDConnector', student_channels=64, teacher_channels=128),
        ),
        logits=_base_.logits,
    ),
)
