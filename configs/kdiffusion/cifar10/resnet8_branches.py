"""Branches without a teacher: what the re-parameterisation is worth alone."""

_base_ = ['./resnet8_student.py', '../_base_/points.py']

model = dict(
    _delete_=True,
    type='diffkd_mm.Distiller',
    student=_base_.model,
    branches=dict(layers=['backbone.layer3.0.conv2'], num_branches=_base_.num_branches),
)
