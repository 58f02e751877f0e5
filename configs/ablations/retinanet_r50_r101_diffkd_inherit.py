_base_ = '../retinanet_r50_r101_diffkd.py'

# "Inheriting", see `retinanet_r50_x101_diffkd_inherit.py`.
model = dict(inherit=['neck', 'bbox_head'])
