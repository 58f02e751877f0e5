"""DiffKD whose student's projection is taught the teacher's basis, that of the denoiser."""

_base_ = '../retinanet_digits_diffkd.py'

model = dict(points=dict(fpn=dict(connector=dict(loss_align_weight=1.0))))
