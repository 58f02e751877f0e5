_base_ = ['../../_base_/models/cifar/resnet20.py', './_base_/cifar10_16.py']

model = dict(backbone=dict(depth=8), head=dict(num_classes=10))
