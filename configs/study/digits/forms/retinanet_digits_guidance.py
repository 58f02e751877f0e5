"""FitNet, pulled by a denoiser that the teacher alone teaches."""

_base_ = '../retinanet_digits_fitnet.py'

model = dict(points=dict(fpn=dict(connector=dict(type='ScoreGuidanceConnector'))))
