"""FitNet (Romero et al. 2015) on DiffKD's feature: a 1×1 conv on the student, MSE."""

_base_ = './resnet8x4_resnet32x4_diffkd.py'

feature = _base_.model.points.feature
connector = dict(feature.connector, type='ConvConnector')
model = dict(points=dict(_delete_=True, feature=dict(feature, connector=connector)))
