# The student's regressor is class-agnostic, as those of a cascade are; a checkpoint of this
# training loads into this base config.
_base_ = [
    './_base_/faster-rcnn_r50_fpn_2x_class-agnostic_coco.py',
    './_base_/points/fpn.py',
    './_base_/runtime/distillation.py',
]

model = dict(
    _delete_=True,
    type='diffkd_mm.Distiller',
    student=_base_.model,
    teacher=dict(
        config='mmdet::cascade_rcnn/cascade-mask-rcnn_x101-64x4d_fpn_20e_coco.py',
        checkpoint='zoo',
    ),
    points=dict(
        fpn=_base_.fpn,
        # The cascade's first stage, whose deltas are scaled as the student's are.
        reg=dict(
            student='roi_head.bbox_head.fc_reg',
            teacher='roi_head.bbox_head.0.fc_reg',
            regions='roi_head.bbox_roi_extractor',
            loss=dict(type='mmdet.SmoothL1Loss', loss_weight=1.0),
        ),
    ),
)
