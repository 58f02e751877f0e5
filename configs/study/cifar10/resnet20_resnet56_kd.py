_base_ = './resnet8_resnet56_kd.py'

model = dict(student=dict(backbone=dict(depth=20)))
