_base_ = './resnet8_resnet56_fitnet.py'

model = dict(student=dict(backbone=dict(depth=20)))
