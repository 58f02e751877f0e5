"""DiffKD with noise that is really added, a fifth at first and none at the end."""

_base_ = '../retinanet_digits_diffkd.py'

noise = dict(type='ScheduledNoise', start=0.8, end=1.0, iters=_base_.max_iters)
model = dict(points=dict(fpn=dict(connector=dict(noise_adapter=noise))))
