"""Table 3: Swin-T with Swin-L, 82.5 top-1."""

_base_ = [
    './students/swin_t_b3.py',
    '../_base_/teachers/swin_l.py',
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
                student_channels=768,
                teacher_channels=1536,
                latent_channels=768,
            ),
        ),
        logits=_base_.logits,
    ),
)
