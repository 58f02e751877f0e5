"""The teacher: the student at twice its width, trained for longer and on larger crops.

Trained before the students, in half an hour on two CPU cores:

    python tools/train.py configs/camvid/deeplabv3_camvid_teacher.py \
        --work-dir work_dirs/camvid/teacher
"""

_base_ = './deeplabv3_camvid_student.py'

base_channels = 32
crop_size = (160, 224)

model = dict(
    data_preprocessor=dict(size=crop_size),
    backbone=dict(stem_channels=32, base_channels=base_channels),
    decode_head=dict(in_channels=8 * base_channels, channels=96, projection_dropout_ratio=0.5),
    auxiliary_head=dict(in_channels=4 * base_channels, channels=32),
)

train_dataloader = dict(
    dataset=dict(
        pipeline=[
            *_base_.train_pipeline[:3],
            dict(type='RandomCrop', crop_size=crop_size),
            *_base_.train_pipeline[4:],
        ]
    )
)

max_iters = 1500
optim_wrapper = dict(optimizer=dict(lr=1.5e-3))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=60),
    dict(type='PolyLR', eta_min=1e-5, power=0.9, by_epoch=False, begin=0, end=max_iters),
]
train_cfg = dict(max_iters=max_iters, val_interval=250)
default_hooks = dict(checkpoint=dict(interval=250))
