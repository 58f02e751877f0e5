"""FitNet on the FPN."""

_base_ = ['../retinanet_r50_r101_diffkd.py', '../_base_/points/fpn_fitnet.py']

model = dict(points=dict(_delete_=True, **_base_.fitnet_points))
