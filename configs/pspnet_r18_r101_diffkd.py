_base_ = [
    './cityscapes/pspnet_r18.py',
    './_base_/teachers/deeplabv3_r101.py',
    './_base_/points/cityscapes.py',
]

model = dict(
    _delete_=True,
    type='diffkd_mm.Distiller',
    student=_base_.model,
    teacher=_base_.teacher,
    points=dict(logits=_base_.logits),
)
