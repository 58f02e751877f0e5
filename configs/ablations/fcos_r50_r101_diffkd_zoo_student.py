_base_ = '../fcos_r50_r101_diffkd.py'

# The zoo's FCOS as the student, without the changes of the base config.
model = dict(
    student=dict(
        bbox_head=dict(
            norm_on_bbox=False,
            center_sampling=False,
            conv_bias='auto',
            loss_bbox=dict(type='IoULoss'),
        ),
        test_cfg=dict(nms=dict(iou_threshold=0.5)),
    ),
)
