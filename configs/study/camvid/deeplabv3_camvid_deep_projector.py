"""DiffKD's connector, never taught to denoise and given no noise."""

_base_ = './deeplabv3_camvid_diffkd.py'

model = dict(points=dict(logits=dict(connector=dict(type='DeepProjectorConnector'))))
