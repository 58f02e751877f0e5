_base_ = './diffkd_fgd.py'

model = dict(points=dict(_delete_=True, fgd=_base_.model.points.fgd))
