"""The student of the blood cells in the study of ``docs/study.md``, 1200 iterations.

``BCCD_ITERS`` in the environment is the number of iterations. 40 of the 205 training images are
kept to choose loss weights on; the test is on the images of validation.
"""

_base_ = '../../bccd/retinanet_bccd_student.py'

kept = list(range(0, 200, 5))
others = [i for i in range(205) if i not in kept]
train_dataloader = dict(dataset=dict(indices=others))  # all for the report: None
test_dataloader = _base_.val_dataloader
test_evaluator = _base_.val_evaluator

load, resize, annotations, pack = _base_.val_dataloader.dataset.pipeline
pack = dict(pack, meta_keys=(*pack.meta_keys, 'instances'))  # the truth, for the metric
val_dataloader = dict(
    dataset=dict(
        ann_file='annotations/train.json',
        data_prefix=dict(img='train/'),
        indices=kept,
        pipeline=[load, resize, annotations, pack],
    ),
)
val_evaluator = dict(ann_file=None)

max_iters = int('{{$BCCD_ITERS:1200}}')
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=60),
    dict(type='CosineAnnealingLR', eta_min_ratio=0.01, by_epoch=False, begin=0, end=max_iters),
]
