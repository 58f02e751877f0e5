"""DiffKD of all levels of an FPN of 256 channels, with the weight of most of the paper's pairs."""

fpn = dict(
    student='neck',
    teacher='neck',
    connector=dict(type='DiffKDConnector', student_channels=256, teacher_channels=256),
    loss=dict(type='MSELoss', loss_weight=5.0),
)
