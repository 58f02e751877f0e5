"""Without diffusion: target guidance by the first layer of the teacher's head, beside FitNet.

The grid is that of ``guidance_weight``; FitNet's own weight is the one that its tuning picked.
"""

_base_ = '../retinanet_digits_fitnet.py'

model = dict(
    points=dict(
        fpn=dict(
            loss=dict(loss_weight=0.15),
            guidance='bbox_head.cls_convs.0.conv',
            guidance_weight=1.0,
        ),
    ),
)
