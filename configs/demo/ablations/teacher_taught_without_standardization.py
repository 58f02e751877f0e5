_base_ = '../retinanet_digits_diffkd_teacher_taught.py'

model = dict(points=dict(fpn=dict(connector=dict(standardize=None))))
