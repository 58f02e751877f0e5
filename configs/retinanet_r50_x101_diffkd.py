_base_ = ['mmdet::retinanet/retinanet_r50_fpn_2x_coco.py', './_base_/runtime/distillation.py']

model = dict(
    _delete_=True,
    type='diffkd_mm.Distiller',
    student=_base_.model,
    # The paper's teacher has AP 41.2; the nearest entry of MMDetection's zoo is this one, 41.0.
    teacher=dict(config='mmdet::retinanet/retinanet_x101-64x4d_fpn_1x_coco.py', checkpoint='zoo'),
    points=dict(
        fpn=dict(
            student='neck',
            teacher='neck',
            connector=dict(type='DiffKDConnector'),
            loss=dict(type='MSELoss', loss_weight=5.0),
        ),
        reg=dict(
            student='bbox_head.retina_reg',
            teacher='bbox_head.retina_reg',
            loss=dict(type='mmdet.SmoothL1Loss', loss_weight=1.0),
        ),
    ),
)

# Stability, as in the same authors' earlier detection code (MasKD): clipped gradients and a
# longer warm-up. The learning rate stays the zoo's.
optim_wrapper = dict(clip_grad=dict(max_norm=35, norm_type=2))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=1000),
    dict(type='MultiStepLR', begin=0, end=24, by_epoch=True, milestones=[16, 22], gamma=0.1),
]
