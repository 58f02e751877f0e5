"""DiffKD as in the paper's Cityscapes recipe: the logits denoised, then DIST."""

_base_ = './deeplabv3_camvid_dist.py'

connector = dict(type='DiffKDConnector', student_channels=11, teacher_channels=11)
model = dict(points=dict(logits=dict(connector=connector)))
