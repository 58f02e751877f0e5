"""Options of a config, checked against the signature of what they are for.

A class says with its annotations what it takes: ``shared: bool``, ``num_levels: int | None``,
``mode: Literal['channel', 'scale']``, ``tau: PositiveFloat``. The names of ranges are below.
"""

import difflib
import math
import types
from collections.abc import Mapping, Sequence
from inspect import Parameter, signature
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from torch import nn

from .errors import DistillationError
from .registry import MODELS, build_model


class Range:
    """Smallest value of a number, allowed itself or (``open=True``) not."""

    def __init__(self, minimum: float, open: bool = False) -> None:
        self.minimum, self.open = minimum, open

    def __contains__(self, value: float) -> bool:
        return math.isfinite(value) and (
            value > self.minimum if self.open else value >= self.minimum
        )

    def __str__(self) -> str:
        return f'{"above" if self.open else "of at least"} {self.minimum:g}'


PositiveInt = Annotated[int, Range(1)]
NonNegativeInt = Annotated[int, Range(0)]
PositiveFloat = Annotated[float, Range(0, open=True)]
NonNegativeFloat = Annotated[float, Range(0)]


def check_options(cfg: Mapping, target: type, where: str) -> None:
    """Checks names, types and ranges of options against the parameters of a class.

    Args:
        cfg (Mapping): The options; ``type`` and ``_scope_`` are passed over.
        target (type): The class whose ``__init__`` they are for. Parameters without an annotation
            take everything.
        where (str): What to call the place in the message.

    Raises:
        DistillationError: Names the option, what was found and what is expected; for an unknown
            one the nearest existing one.
    """
    parameters = signature(target.__init__).parameters
    known = [name for name in parameters if name not in ('self', 'name')]
    hints = get_type_hints(target.__init__, include_extras=True)
    takes_all = any(p.kind is Parameter.VAR_KEYWORD for p in parameters.values())
    for option, value in cfg.items():
        if option in ('type', '_scope_'):
            continue
        if option not in known and not takes_all:
            near = difflib.get_close_matches(str(option), known, n=1)
            hint = f' Did you mean {near[0]!r}?' if near else ''
            raise DistillationError(
                f'{where}: {target.__name__} has no option {option!r}.{hint} '
                f'Options: {", ".join(known)}.'
            )
        if option in hints and not fits(value, hints[option]):
            raise DistillationError(
                f'{where}: {option}={value!r}, but {target.__name__} takes '
                f'{describe(hints[option])}.'
            )


def fits(value: Any, hint: Any) -> bool:
    """Whether a config's value is of an annotated type; an int is a float, a bool no number."""
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return fits(value, args[0]) and all(value in r for r in args[1:] if isinstance(r, Range))
    if origin in (Union, types.UnionType):
        return any(fits(value, arg) for arg in args)
    if origin is Literal:
        return any(type(value) is type(arg) and value == arg for arg in args)
    if hint in (Any, Parameter.empty):
        return True
    if hint is None or hint is type(None):
        return value is None
    if hint in (int, float):
        numbers = (int, float) if hint is float else int
        return isinstance(value, numbers) and not isinstance(value, bool)
    kind = origin or hint
    if not isinstance(value, kind):
        return False
    if kind is Sequence:
        items = args[0] if args else Any
        return not isinstance(value, (str, bytes)) and all(fits(item, items) for item in value)
    return True


def describe(hint: Any) -> str:
    """What an annotation takes, in words."""
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return ' '.join([describe(args[0]), *(str(r) for r in args[1:] if isinstance(r, Range))])
    if origin in (Union, types.UnionType):
        return ' or '.join(describe(arg) for arg in args)
    if origin is Literal:
        return ' or '.join(repr(arg) for arg in args)
    if hint is None or hint is type(None):
        return 'None'
    if (origin or hint) is Sequence:
        return f'a list, each item {describe(args[0])}' if args else 'a list'
    words = {int: 'an integer', float: 'a number', bool: 'True or False', str: 'a string'}
    return words.get(hint) or f'a {(origin or hint).__name__}'


def build_part(cfg: Mapping, where: str) -> nn.Module:
    """Builds a connector or a loss, and names the place in the config if that fails.

    Args:
        cfg (Mapping): Config with the key ``type``, a registered name or a class.
        where (str): What to call the place in the message.

    Returns:
        nn.Module: The module.

    Raises:
        DistillationError: If the type or an option is unknown or refused.
    """
    if not isinstance(cfg, Mapping) or not isinstance(cfg.get('type'), (str, type)):
        raise DistillationError(
            f"{where}: {cfg!r} must be a dict with the key 'type', such as dict(type='MSELoss')."
        )
    target = part_class(cfg)
    if target is None:
        near = difflib.get_close_matches(cfg['type'], MODELS.module_dict, n=1)
        hint = f' Did you mean {near[0]!r}?' if near else ''
        raise DistillationError(
            f'{where}: no {cfg["type"]!r} is registered.{hint} One of your own must be imported by '
            "custom_imports, another package's named with its scope, such as 'mmdet.L1Loss'."
        )
    check_options(cfg, target, where)
    try:
        return build_model(cfg)
    except (KeyError, TypeError, ValueError) as error:
        raise DistillationError(f'{where}: {error}') from error


def part_class(cfg: Mapping) -> type | None:
    """The class that a part's ``type`` names or is; None if no such class is registered."""
    kind = cfg.get('type')
    return MODELS.get(kind) if isinstance(kind, str) else kind
