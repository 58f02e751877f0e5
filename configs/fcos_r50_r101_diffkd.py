_base_ = [
    './_base_/fcos_r50-caffe_fpn_gn-head-center-normbbox-giou_ms-640-800-2x_coco.py',
    './_base_/points/fpn.py',
    './_base_/runtime/distillation.py',
]

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
        fpn=_base_.fpn,
    ),
)
