"""CWD on the logits."""

_base_ = ['../deeplabv3_r18_r101_diffkd.py', '../_base_/points/cityscapes_cwd.py']

model = dict(points=dict(_delete_=True, **_base_.cwd_points))
