"""The student: DeepLabV3 on a ResNet-18 of a quarter of its width, 0.9 M parameters."""

_base_ = ['../_base_/models/deeplabv3_r18.py', './_base_/camvid.py']

base_channels = 16
num_classes = len(_base_.classes)

model = dict(
    data_preprocessor=dict(std=[60.0] * 3, size=_base_.crop_size),
    backbone=dict(stem_channels=16, base_channels=base_channels, init_cfg=None),
    decode_head=dict(
        dilations=(1, 3, 6, 9),  # for maps of 14×20 positions, the teacher's of 20×28
        in_channels=8 * base_channels,
        channels=48,
        projection_dropout_ratio=0.1,
        num_classes=num_classes,
    ),
    auxiliary_head=dict(in_channels=4 * base_channels, channels=16, num_classes=num_classes),
)
