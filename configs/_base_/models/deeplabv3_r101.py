"""DeepLabV3-R101 as in CIRKD: the teacher of Table 6, 61.12 M parameters.

The backbone's weights are CIRKD's ImageNet file (Google Drive
1V8-E4wm2VMsfnNiczSIDoSM7JJBMARkP), converted; only training the teacher needs them:

    python tools/model_converters/cirkd2mmseg.py resnet101-imagenet.pth \
        checkpoints/cirkd_resnet101.pth
"""

_base_ = './deeplabv3_r18.py'

model = dict(
    backbone=dict(
        type='ResNetV1c',  # a bottleneck's only 3×3 convolution is dilated by MMSegmentation too
        depth=101,
        init_cfg=dict(checkpoint='checkpoints/cirkd_resnet101.pth'),
    ),
    decode_head=dict(in_channels=2048, channels=256),
    auxiliary_head=dict(in_channels=1024, channels=256),
)
