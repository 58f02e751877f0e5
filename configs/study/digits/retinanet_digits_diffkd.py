_base_ = './retinanet_digits_fitnet.py'

model = dict(points=dict(fpn=dict(connector=dict(type='DiffKDConnector'))))
