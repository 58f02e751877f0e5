"""MMDetection's Faster R-CNN whose box regressor is shared between the classes."""

_base_ = 'mmdet::faster_rcnn/faster-rcnn_r50_fpn_2x_coco.py'

model = dict(roi_head=dict(bbox_head=dict(reg_class_agnostic=True)))
