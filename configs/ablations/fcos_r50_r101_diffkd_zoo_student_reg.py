"""FCOS with regression KD.

The zoo's student, because its `conv_reg` gives what the teacher's does: the logarithm of distances
in pixels, but for the learned scale of a level. That of the changed student gives distances in
strides. Loss and weight are RetinaNet's.
"""

_base_ = './fcos_r50_r101_diffkd_zoo_student.py'

model = dict(
    points=dict(
        reg=dict(
            student='bbox_head.conv_reg',
            teacher='bbox_head.conv_reg',
            loss=dict(type='mmdet.L1Loss', loss_weight=1.0),
        ),
    ),
)
