"""Initializations of the networks of classification."""

# Normal, variance 2 / fan_out, without regard to groups (MMEngine's defaults).
KAIMING_NORMAL = dict(type='Kaiming', layer='Conv2d')

# PyTorch's own for convolutions: uniform, variance 1 / (3 fan_in).
PYTORCH_DEFAULT = dict(
    type='Kaiming',
    layer='Conv2d',
    a=5**0.5,
    mode='fan_in',
    nonlinearity='leaky_relu',
    distribution='uniform',
)
