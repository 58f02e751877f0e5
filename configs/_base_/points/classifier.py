"""What DiffKD compares in a classifier of 1000 classes: the map before pooling, and the logits.

The feature's connector is the config's own: its channels are those of the pair.
"""

feature = dict(
    student='backbone',
    teacher='backbone',
    loss=dict(type='MSELoss', loss_weight=1.0),
)
logits = dict(
    student='head.fc',
    teacher='head.fc',
    connector=dict(
        type='DiffKDConnector',
        student_channels=1000,
        teacher_channels=1000,
        denoiser=dict(type='VectorDenoiser'),
        noise_adapter=dict(type='VectorNoiseAdapter'),
    ),
    loss=dict(type='KLDivLoss', tau=1.0, loss_weight=1.0),
)
