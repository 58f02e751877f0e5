"""The demo's student in the study of ``docs/study.md``, with other images to evaluate on.

``DIGITS_ITERS`` in the environment is the number of iterations. Validation is on ``tune``, whose
images choose the loss weights, the test on images that nothing was chosen on.
"""

_base_ = '../../demo/retinanet_digits_student.py'

val_dataloader = dict(dataset=dict(split='tune', num_images=1000))
test_dataloader = dict(dataset=dict(split='test', num_images=1000))

max_iters = int('{{$DIGITS_ITERS:600}}')
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=60),
    dict(type='CosineAnnealingLR', eta_min_ratio=0.01, by_epoch=False, begin=0, end=max_iters),
]
