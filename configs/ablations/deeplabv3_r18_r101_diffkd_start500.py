"""The start of appendix B.1 to the letter: evaluations at t = 500, 400, 300, 200, 100."""

_base_ = '../deeplabv3_r18_r101_diffkd.py'

model = dict(points=dict(logits=dict(connector=dict(timestep_spacing='trailing'))))
