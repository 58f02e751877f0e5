"""DeepLabV3-MobileNetV2 as in CIRKD: a student of Table 6, 3.23 M parameters.

The backbone's weights are CIRKD's ImageNet file,
https://drive.google.com/file/d/12EDZjDSCuIpxPv-dkk1vrxA7ka0b0Yjv, converted:

    python tools/model_converters/cirkd2mmseg.py mobilenetv2-imagenet.pth \
        checkpoints/cirkd_mobilenetv2.pth
"""

_base_ = './deeplabv3_r18.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='diffkd_mm.DilatedMobileNetV2',
        norm_cfg=_base_.norm_cfg,
        init_cfg=dict(type='Pretrained', checkpoint='checkpoints/cirkd_mobilenetv2.pth'),
    ),
    decode_head=dict(in_channels=320),
    auxiliary_head=None,
)
