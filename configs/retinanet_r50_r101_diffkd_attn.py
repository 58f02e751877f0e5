_base_ = './retinanet_r50_r101_diffkd.py'

# DiffKD†: the teacher's spatial attention weighs the error.
model = dict(points=dict(fpn=dict(loss=dict(attention='spatial'))))
