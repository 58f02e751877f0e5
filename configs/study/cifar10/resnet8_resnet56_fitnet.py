_base_ = './resnet8_resnet56_diffkd.py'

feature = _base_.model.points.feature
connector = dict(feature.connector, type='ConvConnector')
model = dict(points=dict(_delete_=True, feature=dict(feature, connector=connector)))
