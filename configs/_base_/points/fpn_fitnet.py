"""FitNet (Romero et al. 2015) on all levels of an FPN: a 1×1 conv on the student, MSE.

No weight is given for detectors; 1 is that of the code of MasKD, by the authors of DiffKD.
"""

fitnet_points = dict(
    fpn=dict(
        student='neck',
        teacher='neck',
        connector=dict(type='ConvConnector', student_channels=256, teacher_channels=256),
        loss=dict(type='MSELoss', loss_weight=1.0),
    ),
)
