_base_ = '../retinanet_r50_x101_diffkd.py'

# "Inheriting": neck and head start as copies of the teacher's. Not in the paper; a habit of other
# papers on the distillation of detectors.
model = dict(inherit=['neck', 'bbox_head'])
