_base_ = './resnet8_resnet56_guided.py'

model = dict(student=dict(backbone=dict(depth=20)))
