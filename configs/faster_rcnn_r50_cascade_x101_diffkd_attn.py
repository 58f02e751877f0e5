_base_ = './faster_rcnn_r50_cascade_x101_diffkd.py'

# DiffKD†: the teacher's spatial attention weighs the error.
model = dict(points=dict(fpn=dict(loss=dict(attention='spatial'))))
