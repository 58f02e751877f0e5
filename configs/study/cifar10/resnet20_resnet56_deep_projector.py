_base_ = './resnet8_resnet56_deep_projector.py'

model = dict(student=dict(backbone=dict(depth=20)))
