"""The frozen teacher: found by its config, loaded strictly, kept out of everything but ``.to``."""

import hashlib
import logging
import os
import pickle
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import torch
from mmengine.config import Config
from mmengine.config.utils import ConfigParsingError
from mmengine.dist import barrier
from mmengine.hub import get_config
from mmengine.logging import HistoryBuffer, print_log
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.visualization import Visualizer
from torch import Tensor, nn

from ..checkpoints import convert_published
from ..errors import DistillationError

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


def model_weights(loaded: Any, checkpoint: str) -> dict[str, Tensor]:
    """The model's state dict in the content of a checkpoint, without distillation modules.

    Raises:
        DistillationError: If there is none.
    """
    places = []
    if isinstance(loaded, dict):
        places = [loaded.get('state_dict'), loaded.get('model'), loaded]
    state_dict = next((x for x in places if isinstance(x, dict)), None)
    if not state_dict or not all(isinstance(x, Tensor) for x in state_dict.values()):
        raise DistillationError(f'{checkpoint!r} is not a checkpoint of a model.')
    weights = {k.removeprefix('module.'): v for k, v in state_dict.items()}
    return {k: v for k, v in weights.items() if not k.startswith('distillation.')}


def trained_classes(loaded: Any) -> list[str] | None:
    """Names of the classes that a checkpoint of OpenMMLab says its model was trained on."""
    meta = loaded.get('meta') if isinstance(loaded, dict) else None
    if not isinstance(meta, dict):
        return None
    # Before MMEngine it was a key of its own.
    names = (meta.get('dataset_meta') or {}).get('classes', meta.get('CLASSES'))
    return list(names) if isinstance(names, (list, tuple)) else None


def read_checkpoint_file(checkpoint: str, trust: bool = False) -> Any:
    """Reads a checkpoint file.

    Args:
        checkpoint (str): Path or http(s) URL, of a file of PyTorch or, by its name, of safetensors.
            A URL is downloaded once, by the main process.
        trust (bool): Allow the file to run code when it is read (full pickle). Defaults to False.

    Returns:
        Any: What the file contains, tensors on the CPU.

    Raises:
        DistillationError: If the file is missing, truncated or not safe.
    """
    is_url = checkpoint.startswith(('http://', 'https://'))
    try:
        path = _download(checkpoint) if is_url else Path(checkpoint)
    except Exception as error:
        raise DistillationError(
            f'cannot download {checkpoint!r}: {error}. Download it by other means and give its '
            'path.'
        ) from error
    if not path.is_file():
        raise DistillationError(
            f'there is no checkpoint {str(path)!r} (relative paths start at the current directory).'
        )
    try:
        return (
            _load_safetensors(path) if path.suffix == '.safetensors' else _load_pickle(path, trust)
        )
    except pickle.UnpicklingError as error:
        if 'weights_only' not in str(error).lower() and 'Unsupported' not in str(error):
            raise DistillationError(_broken(path, error)) from error
        raise DistillationError(
            f'{str(path)!r} holds more than weights ({str(error).splitlines()[0]}), and reading '
            'it could run code of its author. If you trust its origin, allow it: '
            'teacher=dict(..., trust_checkpoint=True), or --trust of the tools.'
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, AttributeError, KeyError) as error:
        raise DistillationError(_broken(path, error)) from error


def _broken(path: Path, error: Exception) -> str:
    return (
        f'{str(path)!r} cannot be read as a checkpoint; is it complete '
        f'({path.stat().st_size} bytes)? {str(error).splitlines()[0] if str(error) else error!r}'
    )


def _download(url: str) -> Path:
    """Downloads into PyTorch's checkpoint cache, once per node; other processes wait."""
    folder = Path(torch.hub.get_dir()) / 'checkpoints'
    # Files of one name from different places must not be taken for each other.
    digest = hashlib.sha256(url.encode()).hexdigest()[:8]
    path = folder / f'{digest}-{PurePosixPath(urlsplit(url).path).name}'
    if not path.exists() and os.environ.get('LOCAL_RANK', '0') == '0':
        folder.mkdir(parents=True, exist_ok=True)
        print_log(f'Downloading the teacher from {url}', logger='current')
        torch.hub.download_url_to_file(url, str(path))
    barrier()
    return path


def _load_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ImportError as error:
        raise DistillationError(f'{str(path)!r} needs: pip install safetensors') from error
    try:
        return load_file(path)
    except SafetensorError as error:
        raise DistillationError(_broken(path, error)) from error


def _load_pickle(path: Path, trust: bool) -> Any:
    if trust:
        return torch.load(path, map_location='cpu', weights_only=False)
    with ExitStack() as stack:
        if hasattr(torch.serialization, 'safe_globals'):
            stack.enter_context(torch.serialization.safe_globals(_training_state_types()))
        return torch.load(path, map_location='cpu', weights_only=True)


def _training_state_types() -> list:
    """What MMEngine writes into a training checkpoint beside tensors: logs, as NumPy arrays."""
    reconstruct = np.array(0).__reduce__()[0]
    scalar = np.float64(0).__reduce__()[0]
    dtypes = {type(np.dtype(x)) for x in ('f8', 'f4', 'i8', 'i4', 'b1')}
    log = [HistoryBuffer, (_log_statistic, 'builtins.getattr')]
    return [np.ndarray, np.dtype, reconstruct, scalar, *dtypes, *log]


def _log_statistic(owner: Any, name: str) -> Callable:
    """Stands in for ``getattr``, by which a pickled log names its statistics.

    The real one would lead from any object to any code.
    """
    if owner is HistoryBuffer and name in ('min', 'max', 'mean', 'current'):
        return getattr(HistoryBuffer, name)
    raise pickle.UnpicklingError(f'weights_only: getattr({owner!r}, {name!r}) is not allowed')


def _compare_classes(teacher: list[str] | None) -> None:
    """Warns if the teacher's classes are not those of the data, as far as both are known."""
    # A runner tells its visualizer what the training data are, and no model. Without a visualizer
    # `get_current_instance` would fail without releasing its lock.
    visualizer = Visualizer.get_current_instance() if Visualizer._instance_dict else None
    data = list((getattr(visualizer, 'dataset_meta', None) or {}).get('classes') or [])
    if not teacher or not data or teacher == data:
        return
    differences = [
        f'class {i} is {a!r} for the teacher and {b!r} in the data'
        for i, (a, b) in enumerate(zip(teacher, data))
        if a != b
    ]
    number = f'{len(teacher)} classes and the data {len(data)}'
    print_log(
        'teacher: it was trained on other classes than those of the training data: '
        f'{differences[0] if differences else "it has " + number}. Features do not mind; scores '
        'would be compared with those of another class.',
        logger='current',
        level=logging.WARNING,
    )


def _surplus_blocks(expected: Iterable[str], unexpected: Iterable[str]) -> list[str]:
    """Entries of a container, such as ``backbone.layer3.6``, that only the checkpoint has."""

    def numbered(name: str) -> list[str]:
        parts = name.split('.')
        return ['.'.join(parts[: i + 1]) for i, part in enumerate(parts) if part.isdigit()]

    entries = {entry for name in expected for entry in numbered(name)}
    containers = {entry.rpartition('.')[0] for entry in entries}
    found = (entry for name in unexpected for entry in numbered(name))
    return [x for x in found if x not in entries and x.rpartition('.')[0] in containers]


class FrozenTeacher:
    """A teacher that is built and loaded on demand and frozen ever after.

    It is not a module, so that it stays out of ``state_dict``, optimizer, DDP and the averaged
    copies of EMA; copies of a distiller share it.

    Args:
        config (str | dict): See :func:`load_config`.
        checkpoint (str): Path or URL of its weights, or ``'zoo'`` for those that the metafile of
            the config's package lists. Those that :func:`~diffkd_mm.checkpoints.convert_published`
            knows are converted while they are loaded.
        trust_checkpoint (bool): Allow a checkpoint that can run code. Defaults to False.
    """

    def __init__(self, config: str | dict, checkpoint: str, trust_checkpoint: bool = False) -> None:
        self.config = config
        self.checkpoint = checkpoint
        self.trust_checkpoint = trust_checkpoint
        self.model: nn.Module | None = None

    def model_config(self) -> dict:
        """The config of the model alone; of a distillation's config, that of its student."""
        cfg = load_config(self.config)
        model_cfg = dict(cfg.model)
        if 'student' in model_cfg and 'points' in model_cfg:
            model_cfg = dict(model_cfg['student'])
        if 'data_preprocessor' in cfg:
            model_cfg.setdefault('data_preprocessor', cfg.data_preprocessor)
        if cfg.get('default_scope'):
            model_cfg['_scope_'] = cfg.default_scope
        return model_cfg

    def build(self, device: torch.device) -> nn.Module:
        """Builds the teacher, loads its weights and moves it to a device.

        Raises:
            DistillationError: If config and checkpoint do not fit.
        """
        model = MMENGINE_MODELS.build(self.model_config())
        checkpoint = self.checkpoint
        if checkpoint == 'zoo':
            checkpoint = zoo_checkpoint(self.config)
        try:
            loaded = read_checkpoint_file(checkpoint, self.trust_checkpoint)
            weights = model_weights(loaded, checkpoint)
            if hasattr(model, 'backbone'):  # others, such as timm's, keep their own names
                weights = convert_published(weights, checkpoint, model.backbone)
        except DistillationError as error:
            raise DistillationError(f'teacher: {error}') from error
        self._load(model, weights, checkpoint)
        _compare_classes(trained_classes(loaded))
        self.model = model.eval().requires_grad_(False).to(device)
        return self.model

    def _load(self, model: nn.Module, weights: dict[str, Tensor], checkpoint: str) -> None:
        expected = model.state_dict()
        missing = sorted(k for k in expected if k not in weights and 'num_batches' not in k)
        try:
            result = model.load_state_dict(weights, strict=False)
        except RuntimeError as error:
            reason = str(error).removeprefix(
                f'Error(s) in loading state_dict for {type(model).__name__}:'
            )
            raise DistillationError(
                f'teacher: {checkpoint!r} does not fit {self._name()}: '
                f'{reason.strip().splitlines()[0]}'
            ) from error
        # While it loads, a model may translate old names, so ours is not the list; drop indices
        # that it has already, as MMPretrain's Swin does, so neither is its own; or have other names
        # than in its state dict, as MMPretrain's wrapper of timm has.
        missing = [
            k
            for k in result.missing_keys
            if k in missing or (k not in expected and 'num_batches' not in k)
        ]
        if missing:
            raise DistillationError(
                f'teacher: {checkpoint!r} does not fit {self._name()}: {len(missing)} of '
                f'{len(expected)} tensors are missing, e.g. {", ".join(missing[:3])}.'
            )
        part = 'backbone.' if hasattr(model, 'backbone') else ''
        surplus = [x for x in result.unexpected_keys if x.startswith(part)]
        if deeper := _surplus_blocks(expected, surplus):
            raise DistillationError(
                f'teacher: {checkpoint!r} does not fit {self._name()}: it is of a deeper network, '
                f'with {deeper[0]}.'
            )
        if result.unexpected_keys:
            print_log(
                f'teacher: {checkpoint!r} has {len(result.unexpected_keys)} tensors that its '
                f'config does not use, e.g. {", ".join(result.unexpected_keys[:3])}.',
                logger='current',
            )

    def _name(self) -> str:
        return repr(self.config) if isinstance(self.config, str) else 'its config'

    def apply(self, fn: Callable[[Tensor], Tensor]) -> None:
        """Applies what ``Module._apply`` applies: moves and casts the teacher, if it is built."""
        if self.model is not None:
            self.model._apply(fn)

    def __deepcopy__(self, memo: dict) -> 'FrozenTeacher':
        return self
