_base_ = './teacher_taught.py'

model = dict(points=dict(fpn=dict(connector=dict(standardize=None))))
