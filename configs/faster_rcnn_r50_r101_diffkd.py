_base_ = 'mmdet::faster_rcnn/faster-rcnn_r50_fpn_2x_coco.py'

custom_imports = dict(imports=['diffkd_mm'], allow_failed_imports=False)
# Each GPU has its own timesteps and noise.
randomness = dict(seed=None, diff_rank_seed=True)

model = dict(
    _delete_=True,
    type='diffkd_mm.Distiller',
    student=_base_.model,
    teacher=dict(config='mmdet::faster_rcnn/faster-rcnn_r101_fpn_2x_coco.py', checkpoint='zoo'),
    points=dict(
        fpn=dict(
            student='neck',
            teacher='neck',
            connector=dict(type='DiffKDConnector', student_channels=256, teacher_channels=256),
            loss=dict(type='MSELoss', loss_weight=5.0),
        ),
        # The mean over all sampled regions and all their deltas.
        reg=dict(
            student='roi_head.bbox_head.fc_reg',
            teacher='roi_head.bbox_head.fc_reg',
            regions='roi_head.bbox_roi_extractor',
            loss=dict(type='mmdet.SmoothL1Loss', loss_weight=1.0),
        ),
    ),
)
