"""Branches without a teacher: what the re-parameterisation is worth alone."""

_base_ = ['../../study/digits/retinanet_digits_student.py', '../_base_/points.py']

model = dict(
    _delete_=True,
    type='diffkd_mm.Distiller',
    student=_base_.model,
    branches=dict(
        layers=['neck.fpn_convs.0.conv', 'neck.fpn_convs.1.conv'],
        num_branches=_base_.num_branches,
    ),
)
