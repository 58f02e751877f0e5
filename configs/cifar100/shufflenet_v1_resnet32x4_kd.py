_base_ = ['./shufflenet_v1_resnet32x4_diffkd.py', '../_base_/points/cifar_kd.py']

model = dict(
    student=dict(head=dict(loss=dict(loss_weight=_base_.labels_weight))),
    points=dict(_delete_=True, **_base_.kd_points),
)
