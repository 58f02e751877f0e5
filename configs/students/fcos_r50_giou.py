"""The student of `fcos_r50_r101_diffkd.py` alone: the zoo's with centre sampling, normalised boxes,
GIoU and NMS at 0.6."""

_base_ = '../_base_/fcos_r50-caffe_fpn_gn-head-center-normbbox-giou_ms-640-800-2x_coco.py'
