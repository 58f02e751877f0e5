"""ShuffleNetV2 ← Swin on ImageNet-100, one layer: 80.54 in the slides."""

_base_ = ['./students/shufflenet_v2.py', './_base_/points.py']

model = dict(
    _delete_=True,
    type='diffkd_mm.Distiller',
    student=_base_.model,
    teacher=dict(
        config='{{fileDirname}}/students/swin_t.py',
        checkpoint='work_dirs/swin_t/epoch_100.pth',
    ),
    branches=dict(layers=['backbone.layers.3.conv'], num_branches=_base_.num_branches),
    points=dict(
        last=dict(
            **_base_.kdiffusion,
            student='backbone.layers.3.conv',
            teacher='backbone',
            connector=dict(**_base_.bridge, student_channels=1024, teacher_channels=768),
        ),
    ),
)
