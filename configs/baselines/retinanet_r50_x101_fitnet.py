"""FitNet (Romero et al. 2015): a 1×1 conv on the student, MSE. No weight is given for detectors;
1 is that of the code of MasKD, by the authors of DiffKD."""

_base_ = '../retinanet_r50_x101_diffkd.py'

model = dict(
    points=dict(
        _delete_=True,
        fpn=dict(
            student='neck',
            teacher='neck',
            connector=dict(type='ConvConnector', student_channels=256, teacher_channels=256),
            loss=dict(type='MSELoss', loss_weight=1.0),
        ),
    ),
)
