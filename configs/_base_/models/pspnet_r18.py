"""PSPNet-R18 as in CIRKD: a student of Table 6, 12.92 M parameters. Weights: deeplabv3_r18.py."""

_base_ = './deeplabv3_r18.py'

model = dict(
    decode_head=dict(type='diffkd_mm.ElementDropoutPSPHead', pool_scales=(1, 2, 3, 6)),
)
