"""The start of appendix B.1 to the letter: evaluations at t = 500, 400, 300, 200, 100."""

_base_ = '../retinanet_r50_x101_diffkd.py'

model = dict(points=dict(fpn=dict(connector=dict(timestep_spacing='trailing'))))
