_base_ = './_base_/fcos_r50-caffe_fpn_gn-head-center-normbbox-giou_ms-640-800-2x_coco.py'

custom_imports = dict(imports=['diffkd_mm'], allow_failed_imports=False)
# Each GPU has its own timesteps and noise.
randomness = dict(seed=None, diff_rank_seed=True)

model = dict(
    _delete_=True,
    type='diffkd_mm.Distiller',
    student=_base_.model,
    teacher=dict(
        config='mmdet::fcos/fcos_r101-caffe_fpn_gn-head_ms-640-800-2x_coco.py', checkpoint='zoo'
    ),
    # No regression KD: `conv_reg` comes before the learned scale of a level, so that equal outputs
    # are not equal boxes. Gradients are clipped at norm 35 by the zoo's config.
    points=dict(
        fpn=dict(
            student='neck',
            teacher='neck',
            connector=dict(type='DiffKDConnector', student_channels=256, teacher_channels=256),
            loss=dict(type='MSELoss', loss_weight=5.0),
        ),
    ),
)
