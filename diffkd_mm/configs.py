"""Configs of models, by path or as a package ships them, and the weights listed for them."""

from collections.abc import Mapping

from mmengine.config import Config
from mmengine.hub import get_config
from mmengine.utils import import_modules_from_strings

from .compat import own_config
from .errors import DistillationError, first_line


def load_config(config: str | dict, where: str = 'teacher', options: dict | None = None) -> Config:
    """Loads a model's config.

    Args:
        config (str | dict): See :func:`read_config`, with the key ``model``.
        where (str): What to call the place in the message. Defaults to ``'teacher'``.
        options (dict, optional): See :func:`read_config`.

    Returns:
        Config: The config.

    Raises:
        DistillationError: If there is no such config, it has no ``model`` or cannot be overridden.
    """
    cfg = read_config(config, where, options)
    if not isinstance(cfg.get('model'), dict):
        raise DistillationError(f"{where}: the config {config!r} has no 'model'.")
    return cfg


def read_config(
    config: str | dict, where: str, options: dict | None = None, option: str = '--cfg-options'
) -> Config:
    """Reads a config and overrides it.

    Args:
        config (str | dict): Path of a config file, ``'package::path'`` for a config that this or an
            OpenMMLab package ships, or a dict.
        where (str): What to call the place in the message.
        options (dict, optional): Values by dotted keys that override the config's, as
            ``--cfg-options`` gives them.
        option (str): What gave them, for the message.

    Returns:
        Config: The config.

    Raises:
        DistillationError: If there is no such config, or it cannot be overridden.
    """
    try:
        if isinstance(config, dict):
            cfg = Config(config)
        elif '::' in (config := own_config(config)):
            # Inheritance finds the package, and unlike the hub it never installs one.
            cfg = Config.fromstring(f'_base_ = {config!r}', '.py')
        else:
            cfg = Config.fromfile(config)
    except Exception as error:  # a file of Python may fail as any program may
        reason = f'{type(error).__name__}: {first_line(error)}'
        if isinstance(error, RecursionError):
            reason = 'it inherits from itself'
        raise DistillationError(f'{where}: cannot load the config {config!r}: {reason}') from error
    if options:
        try:
            _override(cfg, options)
        except Exception as error:
            raise DistillationError(
                f'{where}: {option} do not fit {config!r}: {first_line(error)}'
            ) from error
    return cfg


def is_distillation(model: Mapping) -> bool:
    """Whether a model's config is that of a distiller, which holds its student's."""
    return 'student' in model and any(key in model for key in ('points', 'inherit', 'branches'))


def _override(cfg: Config, options: dict) -> None:
    """Overrides entries; MMEngine imports only the ``custom_imports`` that it reads in the file."""
    cfg.merge_from_dict(options)
    if any(key.split('.')[0] == 'custom_imports' for key in options):
        import_modules_from_strings(**cfg.custom_imports)


def zoo_checkpoint(config: str | dict, where: str = 'teacher') -> str:
    """URL of the weights that the metafile of an installed package lists for a config.

    Args:
        config (str): Config as ``'package::path'``.
        where (str): What to call the place in the message. Defaults to ``'teacher'``.

    Returns:
        str: The URL.

    Raises:
        DistillationError: If the config is not a package's or the metafile lists no weights.
    """
    if not isinstance(config, str) or '::' not in config:
        raise DistillationError(
            f"{where}: checkpoint='zoo' needs a config of an installed package, such as "
            "'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py'; give the path or URL of the "
            'checkpoint instead.'
        )
    load_config(config, where)  # first: asked for a missing package, the hub would install it
    try:
        weights = get_config(config, pretrained=True).get('model_path')
    except AssertionError:
        weights = None
    if not weights:
        raise DistillationError(
            f'{where}: the metafile of {config.split("::")[0]} lists no weights for {config!r}; '
            'give the path or URL of the checkpoint.'
        )
    return weights
