_base_ = './retinanet_r50_x101_diffkd.py'

model = dict(
    teacher=dict(config='mmdet::retinanet/retinanet_r101_fpn_2x_coco.py'),
    points=dict(reg=dict(loss=dict(type='mmdet.L1Loss'))),
)
