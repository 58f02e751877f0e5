"""The one exception users see when a distillation config does not fit its models."""


class DistillationError(ValueError):
    """A distillation point, its models or its checkpoint do not fit together."""
