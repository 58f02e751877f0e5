"""Data, schedule and runtime of Table 6: Cityscapes under ``data/cityscapes``, 40,000 iterations.

The batch is 16 in total, here two images on each of eight GPUs. On another number of them, say so:
``--cfg-options train_dataloader.batch_size=4`` for four.

``CITYSCAPES_TEST_ZIP=predictions.zip`` in the environment makes the test programs predict the
images of the test split, in place of measuring, and write this file as the benchmark's server takes
it.
"""

_base_ = [
    'mmseg::_base_/datasets/cityscapes.py',
    'mmseg::_base_/schedules/schedule_40k.py',  # poly with power 0.9 down to 1e-4
    'mmseg::_base_/default_runtime.py',
]

# Images smaller than the crop are filled up by the model's data preprocessor, at its `size`.
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    # 0.5, 0.6, ..., 2.0; `RandomResize` would draw any scale in between.
    dict(
        type='RandomChoice',
        transforms=[[dict(type='Resize', scale_factor=tenths / 10)] for tenths in range(5, 21)],
    ),
    dict(type='RandomCrop', crop_size=_base_.crop_size),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs'),
]
train_dataloader = dict(batch_size=2, num_workers=4, dataset=dict(pipeline=train_pipeline))
auto_scale_lr = dict(enable=False, base_batch_size=16)

optim_wrapper = dict(optimizer=dict(lr=0.02))  # SGD, momentum 0.9, weight decay 5e-4
# Each GPU has its own timesteps, noise and dropout.
randomness = dict(seed=0, diff_rank_seed=True)

test_dataloader = _base_.val_dataloader
test_evaluator = _base_.val_evaluator
test_zip = '{{$CITYSCAPES_TEST_ZIP:none}}'
if test_zip != 'none':
    test_dataloader = dict(
        dataset=dict(
            data_prefix=dict(_delete_=True, img_path='leftImg8bit/test'),
            pipeline=[dict(type='LoadImageFromFile'), dict(type='PackSegInputs')],
        )
    )
    test_evaluator = dict(_delete_=True, type='diffkd_mm.CityscapesTestZip', path=test_zip)
