"""DiffKD's connector, never taught to denoise and given no noise."""

_base_ = './retinanet_bccd_diffkd.py'

model = dict(points=dict(fpn=dict(connector=dict(loss_diff_weight=0, noise_adapter=None))))
