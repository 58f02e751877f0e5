"""The logits behind FitNet's 1×1 conv, with the distance of the other arms, DIST."""

_base_ = './deeplabv3_camvid_dist.py'

connector = dict(type='ConvConnector', student_channels=11, teacher_channels=11)
model = dict(points=dict(logits=dict(connector=connector)))
