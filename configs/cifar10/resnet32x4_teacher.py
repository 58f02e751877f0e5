"""A teacher, trained before the students:

python tools/train.py configs/cifar10/resnet32x4_teacher.py --work-dir work_dirs/cifar10/resnet32x4
"""

_base_ = ['../_base_/models/cifar/resnet32x4.py', './_base_/cifar10_teacher.py']

model = dict(head=dict(num_classes=10))
