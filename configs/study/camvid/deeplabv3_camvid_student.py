"""The student of CamVid in the study of ``docs/study.md``: from random weights, 3000 iterations.

``CAMVID_ITERS`` in the environment is the number of iterations. The last 67 of the 367 training
images, the end of a drive, are kept to choose loss weights on; the test is on the images of
validation.
"""

_base_ = '../../camvid/deeplabv3_camvid_student.py'

kept = list(range(300, 367))
others = list(range(300))
train_dataloader = dict(dataset=dict(indices=others))  # all for the report: None
test_dataloader = _base_.val_dataloader
val_dataloader = dict(
    dataset=dict(
        data_prefix=dict(img_path='leftImg8bit/train', seg_map_path='gtFine/train'), indices=kept
    ),
)

max_iters = int('{{$CAMVID_ITERS:3000}}')
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=60),
    dict(type='PolyLR', eta_min=1e-5, power=0.9, by_epoch=False, begin=0, end=max_iters),
]
