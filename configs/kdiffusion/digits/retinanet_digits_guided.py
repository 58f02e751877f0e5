"""Both levels with target guidance by the first convolution of the teacher's head."""

_base_ = './retinanet_digits_multi.py'

guided = dict(guidance='bbox_head.cls_convs.0.conv')
model = dict(points=dict(p3=guided, p4=guided))
