"""Table 3: MobileNetV2 with ResNet-50 of "ResNet strikes back", 74.9 top-1."""

_base_ = [
    './students/mobilenet_v2_b2.py',
    '../_base_/teachers/resnet50sb.py',
    '../_base_/points/classifier.py',
]

model = dict(
    _delete_=True,
    type='diffkd_mm.Distiller',
    student=_base_.model,
    teacher=_base_.teacher,
    points=dict(
        feature=dict(
            **_base_.feature,
            connector=dict(
                type='DiffKDConnector',
                student_channels=1280,
                teacher_channels=2048,
                latent_channels=1024,
            ),
        ),
        logits=_base_.logits,
    ),
)
