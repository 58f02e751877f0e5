"""Table 2: KD, 70.66 top-1."""

_base_ = ['../classification/resnet18_resnet34_diffkd.py', '../_base_/points/imagenet_kd.py']

model = dict(
    student=dict(head=dict(loss=dict(loss_weight=_base_.labels_weight))),
    points=dict(_delete_=True, **_base_.kd_points),
)
