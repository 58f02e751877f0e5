_base_ = './resnet8_resnet56_plain.py'

model = dict(student=dict(backbone=dict(depth=20)))
