"""A teacher, trained before the students:

python tools/train.py configs/cifar10/wrn40_2_teacher.py --work-dir work_dirs/cifar10/wrn40_2
"""

_base_ = ['../_base_/models/cifar/wrn40_2.py', './_base_/cifar10_teacher.py']

model = dict(head=dict(num_classes=10))
