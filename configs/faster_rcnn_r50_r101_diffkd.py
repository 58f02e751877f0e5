_base_ = [
    'mmdet::faster_rcnn/faster-rcnn_r50_fpn_2x_coco.py',
    './_base_/points/fpn.py',
    './_base_/runtime/distillation.py',
]

model = dict(
    _delete_=True,
    type='diffkd_mm.Distiller',
    student=_base_.model,
    teacher=dict(config='mmdet::faster_rcnn/faster-rcnn_r101_fpn_2x_coco.py', checkpoint='zoo'),
    points=dict(
        fpn=_base_.fpn,
        # The mean over all sampled regions and all their deltas.
        reg=dict(
            student='roi_head.bbox_head.fc_reg',
            teacher='roi_head.bbox_head.fc_reg',
            regions='roi_head.bbox_roi_extractor',
            loss=dict(type='mmdet.SmoothL1Loss', loss_weight=1.0),
        ),
    ),
)
