_base_ = ['./shufflenet_v2_resnet32x4_diffkd.py', '../_base_/points/cifar_dist.py']

model = dict(points=dict(_delete_=True, **_base_.dist_points))
