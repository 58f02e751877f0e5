"""Options of a config, checked against the signature of what they build."""

import difflib
import inspect

from torch import nn

from .errors import DistillationError
from .registry import MODELS, build_model


def build_part(cfg: dict, where: str) -> nn.Module:
    """Builds a connector or a loss, and names the place in the config if that fails.

    Args:
        cfg (dict): Config with the key ``type``.
        where (str): What to call the place in the message.

    Returns:
        nn.Module: The module.

    Raises:
        DistillationError: If the type or an option is unknown or refused.
    """
    part_class = MODELS.get(cfg['type']) if isinstance(cfg.get('type'), str) else None
    if part_class is not None:
        check_options(cfg, part_class, where)
    try:
        return build_model(cfg)
    except (KeyError, TypeError, ValueError) as error:
        raise DistillationError(f'{where}: {error}') from error


def check_options(cfg: dict, target: type, where: str) -> None:
    """Checks the keys of a config against the parameters of a class.

    Raises:
        DistillationError: Names the unknown option and the nearest existing one.
    """
    parameters = inspect.signature(target.__init__).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return
    known = [name for name in parameters if name not in ('self', 'name')]
    for option in cfg:
        if option not in known and option not in ('type', '_scope_'):
            near = difflib.get_close_matches(option, known, n=1)
            hint = f' Did you mean {near[0]!r}?' if near else ''
            raise DistillationError(
                f'{where}: {target.__name__} has no option {option!r}.{hint} '
                f'Options: {", ".join(known)}.'
            )
