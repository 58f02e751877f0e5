"""Reading checkpoint files, of which none may run code unless it is trusted."""

import pickle
import re
from pathlib import Path
from typing import Any

import torch
from mmengine.runner import CheckpointLoader
from mmengine.runner import checkpoint as mmengine_checkpoints
from torch import Tensor

from ..compat import TORCH
from ..errors import DistillationError
from .downloading import download
from .file_kinds import is_safetensors, what_else
from .training_state import training_state_globals


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
        checkpoint (str): Path or http(s) URL, of a file of PyTorch or safetensors. A URL is
            downloaded once, by the main process.
        trust (bool): Allow the file to run code when it is read (full pickle). Defaults to False.

    Returns:
        Any: What the file contains, tensors on the CPU.

    Raises:
        DistillationError: If the file is missing, truncated, of another kind or not safe.
    """
    is_url = checkpoint.startswith(('http://', 'https://'))
    path = download(checkpoint) if is_url else Path(checkpoint).expanduser()
    if not path.is_file():
        raise DistillationError(
            f'there is no checkpoint {str(path)!r} (relative paths start at the current directory).'
        )
    try:
        if kind := what_else(path):
            raise DistillationError(f'{str(path)!r} is no checkpoint: it is {kind}.')
        return _load_safetensors(path) if is_safetensors(path) else _load_pickle(path, trust)
    except pickle.UnpicklingError as error:
        if 'weights_only' not in str(error).lower() and 'Unsupported' not in str(error):
            raise DistillationError(_broken(path, error)) from error
        raise DistillationError(
            f'{str(path)!r} holds {_at_fault(error)}, which is no tensor, and reading it could run '
            'code of its author. If you trust its origin, allow it: --trust of the tools, or '
            'trust_checkpoint=True in teacher=dict(...).'
        ) from error
    except (
        RuntimeError,
        EOFError,
        OSError,
        ValueError,
        AttributeError,
        KeyError,
        IndexError,
        TypeError,
        ImportError,
    ) as error:
        if isinstance(error, DistillationError):
            raise
        raise DistillationError(_broken(path, error)) from error


def _at_fault(error: pickle.UnpicklingError) -> str:
    """The object that made PyTorch refuse a file, as far as it says."""
    found = re.search(
        r"GLOBAL ([\w.]+)|<class '([\w.]+)'>|(getattr\(.+\)) is not allowed", str(error)
    )
    return next(filter(None, found.groups())) if found else 'more than weights'


def _broken(path: Path, error: Exception) -> str:
    return (
        f'{str(path)!r} cannot be read as a checkpoint; is it complete '
        f'({path.stat().st_size} bytes)? {str(error).splitlines()[0] if str(error) else error!r}'
    )


def read_all_safely() -> None:
    """Lets MMEngine, too, read checkpoints by :func:`read_checkpoint_file`.

    Those are the ones that ``load_from``, ``resume`` and ``init_cfg`` name. It would read a file in
    full that could not be read without running code.
    """
    mmengine_checkpoints.load_from_http = load_from_file  # of torchvision:// and open-mmlab://
    CheckpointLoader.register_scheme(('', 'http://', 'https://'), load_from_file, force=True)


def load_from_file(filename: str, map_location: Any = None, **options) -> Any:
    """A loader as MMEngine's, that leaves tensors on the CPU, from where they are copied."""
    return read_checkpoint_file(filename)


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
    with path.open('rb') as file:  # by its name, PyTorch would guess the kind
        if trust:
            return torch.load(file, map_location='cpu', weights_only=False)
        if TORCH < (2, 6):  # takes no names beside the types
            from . import restricted_pickle

            options = dict(pickle_module=restricted_pickle, weights_only=False)
            return torch.load(file, map_location='cpu', **options)
        known = [(value, name) for name, value in training_state_globals().items()]
        with torch.serialization.safe_globals(known):
            return torch.load(file, map_location='cpu', weights_only=True)
