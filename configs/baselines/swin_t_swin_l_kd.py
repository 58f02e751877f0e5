"""Table 3: KD, 81.5 top-1."""

_base_ = ['../classification/swin_t_swin_l_diffkd.py', '../_base_/points/imagenet_kd.py']

model = dict(
    student=dict(head=dict(loss=dict(loss_weight=_base_.labels_weight))),
    points=dict(_delete_=True, **_base_.kd_points),
)
