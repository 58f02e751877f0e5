"""A deep projector that is passed once, at t = 500: two bottlenecks for nearly FitNet's cost."""

_base_ = '../retinanet_digits_deep_projector.py'

once = dict(num_inference_steps=1, timestep_spacing='trailing')
model = dict(points=dict(fpn=dict(connector=once)))
