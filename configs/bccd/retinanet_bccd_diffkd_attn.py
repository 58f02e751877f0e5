_base_ = './retinanet_bccd_diffkd.py'

model = dict(points=dict(fpn=dict(loss=dict(attention='spatial'))))
