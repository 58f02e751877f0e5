"""Appendix C.2, DDPM's UNet as the denoiser."""

_base_ = './retinanet_r50_r101_diffkd_1x.py'

model = dict(points=dict(fpn=dict(connector=dict(denoiser=dict(type='UNetDenoiser')))))
