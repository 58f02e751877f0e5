_base_ = ['../_base_/models/cifar/resnet8x4.py', './_base_/cifar10.py']

model = dict(head=dict(num_classes=10))
