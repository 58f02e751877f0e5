"""The student: a RetinaNet with strides 8 to 32 on a ResNet-18 of an eighth of its width."""

_base_ = ['mmdet::_base_/models/retinanet_r50_fpn.py', './_base_/bccd.py']

strides = [8, 16, 32]
base_channels = 8

model = dict(
    data_preprocessor=dict(_delete_=True, **_base_.data_preprocessor),
    backbone=dict(
        depth=18,
        stem_channels=base_channels,
        base_channels=base_channels,
        out_indices=(1, 2, 3),
        frozen_stages=-1,
        norm_eval=False,
        init_cfg=None,
    ),
    neck=dict(
        in_channels=[2 * base_channels, 4 * base_channels, 8 * base_channels],
        out_channels=64,
        start_level=0,
        add_extra_convs=False,
        num_outs=len(strides),
    ),
    bbox_head=dict(
        num_classes=3,
        in_channels=64,
        feat_channels=64,
        stacked_convs=1,
        norm_cfg=dict(type='GN', num_groups=8),
        anchor_generator=dict(
            octave_base_scale=2, scales_per_octave=2, ratios=[1.0], strides=strides
        ),
    ),
    test_cfg=dict(nms_pre=300, max_per_img=50),
)
