_base_ = '../retinanet_digits_diffkd.py'

# FGD's weights are those of its paper for detectors of this kind.
model = dict(
    points=dict(
        fgd=dict(student='neck', teacher='neck', loss=dict(type='FGDLoss', channels=64)),
    ),
)
