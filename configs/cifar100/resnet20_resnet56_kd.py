_base_ = ['./resnet20_resnet56_diffkd.py', '../_base_/points/cifar_kd.py']

model = dict(
    student=dict(head=dict(loss=dict(loss_weight=_base_.labels_weight))),
    points=dict(_delete_=True, **_base_.kd_points),
)
