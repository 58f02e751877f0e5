"""DiffKD's connector, never taught to denoise and given no noise."""

_base_ = './retinanet_digits_diffkd.py'

model = dict(
    points=dict(fpn=dict(connector=dict(type='DeepProjectorConnector'))),
)
