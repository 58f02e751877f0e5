"""Appendix C.5: FPN features, classification and regression outputs, all without a denoiser."""

_base_ = './retinanet_r50_r101_all_diffkd.py'

model = dict(
    points=dict(fpn=dict(connector=None), cls=dict(connector=None), reg=dict(connector=None))
)
