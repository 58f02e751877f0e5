_base_ = './reppoints_r50_x101_diffkd.py'

# DiffKD†: the teacher's spatial attention weighs the error.
model = dict(points=dict(fpn=dict(loss=dict(attention='spatial'))))
