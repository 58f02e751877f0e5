_base_ = './resnet8_student.py'

model = dict(backbone=dict(depth=20))
