_base_ = ['./resnet20_resnet56_diffkd.py', '../_base_/points/cifar_dist.py']

model = dict(points=dict(_delete_=True, **_base_.dist_points))
