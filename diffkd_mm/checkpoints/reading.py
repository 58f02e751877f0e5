"""Reading checkpoint files, of which none may run code unless it is trusted."""

import hashlib
import os
import pickle
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import torch
from mmengine.dist import barrier
from mmengine.logging import HistoryBuffer, print_log
from torch import Tensor

from ..errors import DistillationError


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
