"""The student of `faster_rcnn_r50_cascade_x101_diffkd.py` alone: the zoo's, class-agnostic."""

_base_ = '../_base_/faster-rcnn_r50_fpn_2x_class-agnostic_coco.py'
