_base_ = [
    'mmdet::reppoints/reppoints-moment_r50_fpn-gn_head-gn_2x_coco.py',
    './_base_/points/fpn.py',
    './_base_/runtime/distillation.py',
]

model = dict(
    _delete_=True,
    type='diffkd_mm.Distiller',
    student=_base_.model,
    teacher=dict(
        config='mmdet::reppoints/reppoints-moment_x101-dconv-c3-c5_fpn-gn_head-gn_2x_coco.py',
        checkpoint='zoo',
    ),
    points=dict(
        fpn=dict(_base_.fpn, loss=dict(type='MSELoss', loss_weight=15.0)),
        # Weights and β of the regression are MasKD's; the paper does not state them.
        refine=dict(
            student='bbox_head.reppoints_pts_refine_out',
            teacher='bbox_head.reppoints_pts_refine_out',
            loss=dict(type='mmdet.SmoothL1Loss', beta=0.11, loss_weight=0.2),
        ),
        init=dict(
            student='bbox_head.reppoints_pts_init_out',
            teacher='bbox_head.reppoints_pts_init_out',
            loss=dict(type='mmdet.SmoothL1Loss', beta=0.11, loss_weight=0.1),
        ),
    ),
)
