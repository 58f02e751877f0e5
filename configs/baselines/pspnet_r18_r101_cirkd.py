"""CIRKD: relations of pixels, and KD."""

_base_ = ['../pspnet_r18_r101_diffkd.py', '../_base_/points/cityscapes_cirkd.py']

model = dict(points=dict(_delete_=True, **_base_.cirkd_points))
