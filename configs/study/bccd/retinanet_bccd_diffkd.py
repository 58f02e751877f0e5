_base_ = './retinanet_bccd_fitnet.py'

model = dict(points=dict(fpn=dict(connector=dict(type='DiffKDConnector'))))
