"""Configs of models, by path or as a package ships them, and the weights listed for them."""

from mmengine.config import Config
from mmengine.config.utils import ConfigParsingError
from mmengine.hub import get_config

from .errors import DistillationError

# What MMEngine raises for a file that is missing or is none of its configs.
_NO_CONFIG = (OSError, ImportError, SyntaxError, ValueError, AssertionError, ConfigParsingError)


def load_config(config: str | dict) -> Config:
    """Loads a model's config.

    Args:
        config (str | dict): Path of a config file, ``'package::path'`` for a config that an
            OpenMMLab package ships, or a dict with the key ``model``.

    Returns:
        Config: The config.

    Raises:
        DistillationError: If there is no such config or it has no ``model``.
    """
    try:
        if isinstance(config, dict):
            cfg = Config(config)
        elif '::' in config:
            # Inheritance finds the package, and unlike the hub it never installs one.
            cfg = Config.fromstring(f'_base_ = {config!r}', '.py')
        else:
            cfg = Config.fromfile(config)
    except _NO_CONFIG as error:
        raise DistillationError(f'teacher: cannot load the config {config!r}: {error}') from error
    if 'model' not in cfg:
        raise DistillationError(f"teacher: the config {config!r} has no 'model'.")
    return cfg


def zoo_checkpoint(config: str | dict) -> str:
    """URL of the weights that the metafile of an installed package lists for a config.

    Args:
        config (str): Config as ``'package::path'``.

    Returns:
        str: The URL.

    Raises:
        DistillationError: If the config is not a package's or the metafile lists no weights.
    """
    if not isinstance(config, str) or '::' not in config:
        raise DistillationError(
            "teacher: checkpoint='zoo' needs a config of an installed package, such as "
            "'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py'; give the path or URL of the "
            'checkpoint instead.'
        )
    load_config(config)  # first: asked for a missing package, the hub would install it
    try:
        weights = get_config(config, pretrained=True).get('model_path')
    except AssertionError:
        weights = None
    if not weights:
        raise DistillationError(
            f'teacher: the metafile of {config.split("::")[0]} lists no weights for {config!r}; '
            'give the path or URL of the checkpoint.'
        )
    return weights
