_base_ = '../retinanet_digits_diffkd.py'

model = dict(points=dict(fpn=dict(loss=dict(type='WassersteinLoss'))))
