"""Strategy B2 of Table 1: ImageNet under ``data/imagenet``, 450 epochs of RMSProp, EMA.

The batch is 768 in total, here 96 images on each of eight GPUs. On another number of them, say so:
``--cfg-options train_dataloader.batch_size=192`` for four. The label smoothing of 0.1 is the loss
of the students' heads.

What the table leaves open follows the authors' files (``diffkd_b2.yaml``, see ``imagenet_b1.py``):
TensorFlow's RMSProp with its ε and momentum, the warm-up, RandAugment's magnitude, the probability
of an erasure, no weight decay of biases and norms, the EMA of the buffers too. Not as there:
RandAugment's operations are those of timm's "increasing" policy, the warm-up raises the learning
rate after every iteration in place of every epoch, and MobileNetV2 has no dropout.
"""

_base_ = [
    'mmpretrain::_base_/datasets/imagenet_bs64_pil_resize.py',
    'mmpretrain::_base_/default_runtime.py',
]

custom_imports = dict(imports=['diffkd_mm'], allow_failed_imports=False)

# Images are BGR in the pipeline.
bgr_mean = _base_.data_preprocessor.mean[::-1]
bgr_std = _base_.data_preprocessor.std[::-1]
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomResizedCrop', scale=224, backend='pillow'),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(
        type='RandAugment',
        policies='timm_increasing',
        num_policies=2,
        total_level=10,
        magnitude_level=9,
        magnitude_std=0.5,
        hparams=dict(pad_val=[round(x) for x in bgr_mean], interpolation='bilinear'),
    ),
    dict(
        type='RandomErasing',
        erase_prob=0.2,
        mode='rand',
        min_area_ratio=0.02,
        max_area_ratio=1 / 3,
        fill_color=bgr_mean,
        fill_std=bgr_std,
    ),
    dict(type='PackInputs'),
]
train_dataloader = dict(batch_size=96, drop_last=True, dataset=dict(pipeline=train_pipeline))
auto_scale_lr = dict(enable=False, base_batch_size=768)

optim_wrapper = dict(
    optimizer=dict(
        type='diffkd_mm.RMSpropTF',
        lr=0.048,
        alpha=0.9,
        eps=1e-3,
        momentum=0.9,
        weight_decay=1e-5,
    ),
    paramwise_cfg=dict(flat_decay_mult=0.0),
)
param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=1e-6 / 0.048,
        by_epoch=True,
        end=3,
        convert_to_iter_based=True,
    ),
    # x0.97 every 2.4 epochs.
    dict(
        type='diffkd_mm.StepLR',
        step_size=2.4,
        gamma=0.97,
        by_epoch=True,
        begin=3,
        convert_to_iter_based=True,
    ),
]
train_cfg = dict(by_epoch=True, max_epochs=450, val_interval=1)
val_cfg = dict()
test_cfg = dict()

# A momentum of 1e-4 is a decay of 0.9999.
custom_hooks = [dict(type='EMAHook', momentum=1e-4, update_buffers=True, priority='ABOVE_NORMAL')]
default_hooks = dict(checkpoint=dict(max_keep_ckpts=3))
randomness = dict(seed=0, diff_rank_seed=True)
