_base_ = ['../_base_/models/cifar/shufflenet_v1.py', './_base_/cifar10.py']

model = dict(head=dict(num_classes=10))

optim_wrapper = dict(optimizer=dict(lr=0.01))
