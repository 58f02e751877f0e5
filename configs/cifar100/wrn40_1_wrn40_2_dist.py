_base_ = ['./wrn40_1_wrn40_2_diffkd.py', '../_base_/points/cifar_dist.py']

model = dict(points=dict(_delete_=True, **_base_.dist_points))
