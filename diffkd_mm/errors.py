"""The one exception users see when a distillation config does not fit its models."""


class DistillationError(ValueError):
    """A distillation point, its models or its checkpoint do not fit together."""


def first_line(error: Exception) -> str:
    """What another exception says in its first line, or what it is where it says nothing."""
    text = str(error).strip()
    return text.splitlines()[0] if text else repr(error)
