"""MMDetection's FCOS with the changes that students of FCOS are usually trained with.

The paper does not mention them; a student that passes its teacher (42.4 against 40.8) and the
habit of the papers it compares with (MasKD's code has them) speak for them. Centerness stays on the
classification branch. `ablations/fcos_r50_r101_diffkd_zoo_student.py` goes without.
"""

_base_ = 'mmdet::fcos/fcos_r50-caffe_fpn_gn-head_ms-640-800-2x_coco.py'

model = dict(
    bbox_head=dict(
        norm_on_bbox=True,
        center_sampling=True,
        conv_bias=True,
        loss_bbox=dict(type='GIoULoss', loss_weight=1.0),
    ),
    test_cfg=dict(nms=dict(type='nms', iou_threshold=0.6)),
)
