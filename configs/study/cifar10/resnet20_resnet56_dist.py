_base_ = './resnet8_resnet56_dist.py'

model = dict(student=dict(backbone=dict(depth=20)))
