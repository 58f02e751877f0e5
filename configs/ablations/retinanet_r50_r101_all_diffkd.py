"""Appendix C.5: FPN features, classification and regression outputs, all with DiffKD.

The paper names neither detector nor losses and its table is lost; detector, losses and the weights
of the classification are ours. The classification head has 9 anchors of 80 sigmoid scores each, so
its outputs are compared as features are, by MSE.
"""

_base_ = '../retinanet_r50_r101_diffkd.py'

model = dict(
    points=dict(
        cls=dict(
            student='bbox_head.retina_cls',
            teacher='bbox_head.retina_cls',
            connector=dict(type='DiffKDConnector', student_channels=720, teacher_channels=720),
            loss=dict(type='MSELoss', loss_weight=1.0),
        ),
        reg=dict(
            connector=dict(type='DiffKDConnector', student_channels=36, teacher_channels=36),
        ),
    ),
)
