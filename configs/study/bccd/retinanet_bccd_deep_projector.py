"""DiffKD's connector, never taught to denoise and given no noise."""

_base_ = './retinanet_bccd_diffkd.py'

model = dict(points=dict(fpn=dict(connector=dict(type='DeepProjectorConnector'))))
