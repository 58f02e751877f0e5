"""DeepLabV3-R18 as in CIRKD: the student of Table 6, 13.61 M parameters.

The backbone's weights are CIRKD's ImageNet file,
https://drive.google.com/file/d/1_i0n3ZePtQuh66uQIftiSwN7QAUlFb8_, converted:

    python tools/model_converters/cirkd2mmseg.py resnet18-imagenet.pth \
        checkpoints/cirkd_resnet18.pth
"""

# Every batch norm, of backbone and heads, spans all GPUs; on one device it is the plain one.
norm_cfg = dict(type='SyncBN', requires_grad=True)
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='SegDataPreProcessor',
        mean=[104.00698793, 116.66876762, 122.67891434],  # BGR, and the images stay BGR
        std=[1.0, 1.0, 1.0],
        bgr_to_rgb=False,
        size=(512, 1024),  # the crop; smaller images are padded bottom and right, in training
        pad_val=0,  # after the mean is subtracted
        seg_pad_val=255,
    ),
    backbone=dict(
        type='diffkd_mm.DilatedResNetV1c',
        depth=18,
        stem_channels=128,
        strides=(1, 2, 1, 1),
        dilations=(1, 1, 2, 4),
        contract_dilation=True,
        zero_init_residual=False,
        norm_cfg=norm_cfg,
        init_cfg=dict(type='Pretrained', checkpoint='checkpoints/cirkd_resnet18.pth'),
    ),
    decode_head=dict(
        type='diffkd_mm.DeepLabV3Head',
        in_channels=512,
        in_index=3,
        channels=128,
        dropout_ratio=0.1,
        num_classes=19,
        norm_cfg=norm_cfg,
        align_corners=True,
        loss_decode=dict(type='CrossEntropyLoss', loss_weight=1.0, avg_non_ignore=True),
    ),
    auxiliary_head=dict(
        type='diffkd_mm.ElementDropoutFCNHead',
        in_channels=256,
        in_index=2,
        channels=64,
        num_convs=1,
        concat_input=False,
        dropout_ratio=0.1,
        num_classes=19,
        norm_cfg=norm_cfg,
        align_corners=True,
        loss_decode=dict(type='CrossEntropyLoss', loss_weight=0.4, avg_non_ignore=True),
    ),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'),
)
